/**
 * etcd's JSON gateway on the client port: mTLS with the etcd CA, POST only, 64-bit numbers as strings.
 * Error bodies as grpc-gateway v2 makes them (etcd 3.6): {code, message, details}.
 */
import https from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { createHash } from 'node:crypto';
import type { Json } from '../api/json.ts';
import type { ServingCertificate } from '../api/serve.ts';
import type { SimCluster } from '../node/cluster.ts';
import { EtcdError, type EtcdMember, GRPC } from './members.ts';

const HTTP_OF_GRPC: Record<number, number> = { 2: 500, 3: 400, 4: 504, 5: 404, 9: 400, 14: 503 };
const VERSION = '3.6.11';
const ALARMS = [
  ['etcd-nospace', 'NOSPACE'],
  ['etcd-corrupt', 'CORRUPT'],
] as const;
/** A snapshot is streamed in pieces of this size, as etcd does. */
const SNAPSHOT_CHUNK = 32 * 1024;

export class EtcdGateway implements AsyncDisposable {
  readonly #cluster: SimCluster;
  readonly #memberId: bigint;
  readonly #server: https.Server;
  readonly #sockets = new Set<Duplex>();

  constructor(cluster: SimCluster, memberId: bigint, certificate: ServingCertificate) {
    this.#cluster = cluster;
    this.#memberId = memberId;
    this.#server = https.createServer(
      {
        cert: certificate.certPem,
        key: certificate.keyPem,
        ca: certificate.clientCaPem,
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ['http/1.1'],
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.on('tlsClientError', () => {});
    this.#server.on('clientError', (_error, socket) => socket.destroy());
    this.#server.on('secureConnection', (socket: TLSSocket) => socket.on('error', () => {}));
  }

  accept(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
    this.#server.emit('connection', socket);
  }

  renew(certificate: ServingCertificate): void {
    this.#server.setSecureContext({
      cert: certificate.certPem,
      key: certificate.keyPem,
      ca: certificate.clientCaPem,
    });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close(() => {});
  }

  #header(): Json {
    const { etcd, core } = this.#cluster;
    return {
      cluster_id: String(etcd.id),
      member_id: String(this.#memberId),
      revision: String(core.store.revision),
      raft_term: String(etcd.term),
    };
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: Json) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    try {
      if (request.method === 'GET' && request.url === '/health') {
        const ok = this.#cluster.etcd.hasQuorum();
        return send(ok ? 200 : 503, { health: String(ok), reason: ok ? '' : 'RAFT NO LEADER' });
      }
      if (request.method === 'GET' && request.url === '/version')
        return send(200, { etcdserver: VERSION, etcdcluster: '3.6.0', storage: '3.6.0' });
      if (request.method !== 'POST')
        return send(501, { code: 12, message: 'Method Not Allowed', details: [] });
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString('utf8');
      let body: Json;
      try {
        body = text === '' ? {} : JSON.parse(text);
      } catch (error) {
        throw new EtcdError(GRPC.invalidArgument, error instanceof Error ? error.message : 'bad JSON');
      }
      if (request.url === '/v3/maintenance/snapshot') return this.#snapshot(response);
      const reply = this.#call(request.url ?? '', body);
      if (reply === undefined) return send(404, { code: 5, message: 'Not Found', details: [] });
      send(200, reply);
    } catch (error) {
      if (response.headersSent || response.destroyed) return;
      const known = error instanceof EtcdError ? error : new EtcdError(GRPC.unknown, String(error));
      send(HTTP_OF_GRPC[known.code] ?? 500, { code: known.code, message: known.message, details: [] });
    }
  }

  #call(path: string, body: Json): Json | undefined {
    const { etcd } = this.#cluster;
    const header = this.#header();
    const members = () => etcd.members().map(show);
    const self = etcd.get(this.#memberId);
    switch (path) {
      case '/v3/cluster/member/list':
        // The list is linearizable: without quorum it waits and fails.
        if (!etcd.hasQuorum()) throw new EtcdError(GRPC.unavailable, 'etcdserver: request timed out');
        return { header, members: members() };
      case '/v3/cluster/member/add': {
        const added = etcd.add(body.peerURLs ?? [], body.isLearner === true);
        return { header, member: show(added), members: members() };
      }
      case '/v3/cluster/member/remove': {
        etcd.remove(readId(body.ID));
        return { header, members: members() };
      }
      case '/v3/cluster/member/promote':
        etcd.promote(readId(body.ID));
        return { header, members: members() };
      case '/v3/maintenance/status': {
        const leader = etcd.leader();
        const revision = this.#cluster.core.store.revision;
        const errors = [
          ...(leader ? [] : ['etcdserver: no leader']),
          ...this.#alarms().map(({ memberID, alarm }) => `memberID:${memberID} alarm:${alarm} `),
        ];
        return {
          header,
          version: VERSION,
          dbSize: String(20_480 + revision * 64),
          dbSizeInUse: String(16_384 + revision * 32),
          ...(leader ? { leader: String(leader.id) } : {}),
          raftIndex: String(revision + 8),
          raftTerm: String(etcd.term),
          raftAppliedIndex: String(revision + 8),
          ...(errors.length > 0 ? { errors } : {}),
          ...(self?.isLearner ? { isLearner: true } : {}),
          storageVersion: '3.6.0',
        };
      }
      case '/v3/kv/range':
        // Linearizable, so only a voter that is in touch with a majority answers. The double keeps no keys of its own here.
        if (!etcd.hasQuorum()) throw new EtcdError(GRPC.unavailable, 'etcdserver: request timed out');
        if (self?.isLearner)
          throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: rpc not supported for learner');
        return { header };
      case '/v3/maintenance/alarm': {
        if (!etcd.hasQuorum()) throw new EtcdError(GRPC.unavailable, 'etcdserver: request timed out');
        const alarms = this.#alarms();
        return { header, ...(alarms.length > 0 ? { alarms } : {}) };
      }
      case '/v3/maintenance/transfer-leadership':
        etcd.moveLeader(this.#memberId, readId(body.targetID));
        return { header };
      case '/v3/maintenance/defragment':
        return { header };
      default:
        return undefined;
    }
  }

  /** Every member tells those of all. */
  #alarms(): { memberID: string; alarm: string }[] {
    const { controlPlanes, site } = this.#cluster;
    return [...controlPlanes.values()].flatMap(({ machine, memberId }) =>
      ALARMS.flatMap(([fault, alarm]) =>
        site.faults.take(fault, machine) ? [{ memberID: String(memberId), alarm }] : [],
      ),
    );
  }

  /** The contents of the store as a byte stream with a SHA-256 at its end, in the gateway's envelope. */
  #snapshot(response: ServerResponse): void {
    const { core } = this.#cluster;
    const content = Buffer.from(
      JSON.stringify(core.store.resources().map((resource) => [resource, core.store.list(resource)])),
    );
    const image = Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
    const whole = Buffer.concat([image, createHash('sha256').update(image).digest()]);
    response.writeHead(200, { 'content-type': 'application/json' });
    for (let at = 0; at < whole.length; at += SNAPSHOT_CHUNK) {
      const blob = whole.subarray(at, at + SNAPSHOT_CHUNK);
      const remaining = whole.length - at - blob.length;
      response.write(
        `${JSON.stringify({ result: { header: this.#header(), remaining_bytes: String(remaining), blob: blob.toString('base64'), version: VERSION } })}\n`,
      );
    }
    response.end();
  }
}

function show(member: EtcdMember): Json {
  return {
    ID: String(member.id),
    ...(member.name ? { name: member.name } : {}),
    peerURLs: member.peerUrls,
    ...(member.clientUrls.length > 0 ? { clientURLs: member.clientUrls } : {}),
    ...(member.isLearner ? { isLearner: true } : {}),
  };
}

function readId(value: Json): bigint {
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new EtcdError(GRPC.notFound, 'etcdserver: member not found');
  try {
    return BigInt(value);
  } catch {
    throw new EtcdError(
      GRPC.invalidArgument,
      `proto: invalid value for uint64 field ID: ${JSON.stringify(value)}`,
    );
  }
}
