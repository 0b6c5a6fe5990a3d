/**
 * The HTTP face of the core: decode, authenticate, authorize, dispatch, encode. One `ApiFront` per running
 * API server; it serves streams that somebody accepted for it (site network, VIP, a real TCP port).
 */
import https from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { parse as parseYaml } from 'yaml';
import { authenticate } from './authenticate.ts';
import type { ApiCore } from './core.ts';
import { aggregated, apiGroup, apiGroupList, apiResourceList, versionInfo } from './discovery.ts';
import type { Json, KubeObject } from './json.ts';
import type { DeleteOptions, ListQuery, WriteOptions } from './objects.ts';
import { openApiIndex, openApiV2, openApiV2Protobuf, openApiV3 } from './openapi.ts';
import { decodeProtobuf } from './protobuf.ts';
import { attributesOf, forbidden, isAllowed } from './rbac.ts';
import { type ApiRequest, isTrue, parseRequest } from './request.ts';
import type { ResourceType } from './resources.ts';
import { review } from './reviews.ts';
import { ApiError, badRequest, methodNotAllowed, noSuchPath } from './status.ts';
import { serveStream } from './streams.ts';
import { servePodLog, subresource } from './subresources.ts';
import { toTable } from './table.ts';
import { serveWatch } from './watch.ts';

/** Bodies above this are refused, as the real server refuses requests beyond its limit (3 MiB). */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

export interface ServingCertificate {
  readonly certPem: string;
  readonly keyPem: string;
  /** CA that client certificates must be signed by. */
  readonly clientCaPem: string;
}

export class ApiFront implements AsyncDisposable {
  readonly core: ApiCore;
  readonly server: https.Server;
  readonly #sockets = new Set<Duplex>();
  /** Requests seen, for counting tests and the ledger. */
  requests = 0;
  /** The same without streams, by the user who sent them. */
  readonly requestsBy = new Map<string, number>();

  constructor(core: ApiCore, certificate: ServingCertificate) {
    this.core = core;
    this.server = https.createServer(
      {
        cert: certificate.certPem,
        key: certificate.keyPem,
        ca: certificate.clientCaPem,
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
        minVersion: 'TLSv1.2',
        requestTimeout: 0,
        keepAliveTimeout: 90_000,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.server.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket as Duplex, head));
    // Clients that hang up in the handshake are their own business.
    this.server.on('tlsClientError', () => {});
    this.server.on('clientError', (_error, socket) => socket.destroy());
    this.server.on('secureConnection', (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** Serves TLS on a stream that was accepted elsewhere. */
  accept(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
    this.server.emit('connection', socket);
  }

  /** What new connections are shown. */
  renew(certificate: Pick<ServingCertificate, 'certPem' | 'keyPem' | 'clientCaPem'>): void {
    this.server.setSecureContext({
      cert: certificate.certPem,
      key: certificate.keyPem,
      ca: certificate.clientCaPem,
      minVersion: 'TLSv1.2',
    });
  }

  /** Cuts every connection, as a restarting API server does. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    if (this.server.listening) await new Promise<void>((resolve) => this.server.close(() => resolve()));
    else this.server.close(() => {});
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    try {
      const request = await this.#read(message);
      await this.#authorized(request, message, response);
    } catch (error) {
      this.#fail(response, error);
    }
  }

  async #upgrade(message: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    this.requests += 1;
    try {
      const info = parseRequest(message.method ?? 'GET', message.url ?? '/');
      const user = authenticate(message, this.#authentication());
      const request: ApiRequest = { ...info, user, headers: message.headers, body: undefined };
      // exec by GET (WebSocket) and by POST (SPDY) are one permission: create.
      const attributes = {
        ...attributesOf(request),
        ...(info.target?.subresource ? { verb: info.method === 'GET' ? 'get' : 'create' } : {}),
      };
      if (!isAllowed(this.core.store, user, attributes)) throw forbidden(user, attributes);
      await serveStream(this.core, request, message, socket, head);
    } catch (error) {
      const status = error instanceof ApiError ? error : new ApiError(500, 'InternalError', String(error));
      const body = JSON.stringify(status.toStatus());
      socket.end(
        `HTTP/1.1 ${status.code} ${status.reason}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
      );
    }
  }

  #authentication() {
    return {
      store: this.core.store,
      now: () => this.core.clock.now(),
      serviceAccountKey: this.core.serviceAccountKeys?.publicKey,
    };
  }

  async #read(message: IncomingMessage): Promise<ApiRequest> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of message) {
      size += chunk.length;
      if (size > MAX_BODY_BYTES)
        throw new ApiError(413, 'RequestEntityTooLarge', `limit is ${MAX_BODY_BYTES}`);
      chunks.push(chunk);
    }
    let info: ReturnType<typeof parseRequest>;
    try {
      info = parseRequest(message.method ?? 'GET', message.url ?? '/');
    } catch {
      throw badRequest(`cannot parse the request path ${message.url}`);
    }
    const user = authenticate(message, this.#authentication());
    this.requestsBy.set(user.name, (this.requestsBy.get(user.name) ?? 0) + 1);
    return { ...info, user, headers: message.headers, body: decodeBody(Buffer.concat(chunks), message) };
  }

  async #authorized(request: ApiRequest, message: IncomingMessage, response: ServerResponse): Promise<void> {
    const attributes = attributesOf(request);
    if (!isAllowed(this.core.store, request.user, attributes)) throw forbidden(request.user, attributes);
    if (!request.target) return this.#path(request, response);
    const { group, version, plural } = request.target;
    const type = this.core.registry.find(group, version, plural);
    if (!type) throw noSuchPath();
    if (!['get', 'list', 'watch'].includes(request.verb)) {
      const delay = this.core.writeDelayMs();
      if (delay > 0) await this.core.clock.sleep(delay);
    }
    await this.#resource(request, type, message, response);
  }

  async #resource(
    request: ApiRequest,
    type: ResourceType,
    message: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { core } = this;
    const { objects } = core;
    const target = request.target;
    if (!target) throw noSuchPath();
    if (
      type.namespaced
        ? target.name !== undefined && target.namespace === undefined
        : target.namespace !== undefined
    )
      throw noSuchPath();
    const warnings: string[] = [];
    const options = writeOptions(request, warnings);
    const send = (code: number, object: Json) => {
      if (warnings.length > 0)
        response.setHeader(
          'warning',
          warnings.map((text) => `299 - ${JSON.stringify(text)}`),
        );
      this.#send(response, code, this.#render(request, type, object));
    };
    if (target.subresource !== undefined) {
      if (!type.subresources.includes(target.subresource) || target.name === undefined) throw noSuchPath();
      if (target.subresource === 'log') return servePodLog(core, request, type, response);
      const { code, object } = await subresource(core, request, type, target.subresource, options);
      return send(code, object);
    }
    if (type.verbs.length === 1) {
      if (request.verb !== 'create') throw methodNotAllowed();
      return send(201, review(core, request, type));
    }
    if (target.name === undefined && ['update', 'patch'].includes(request.verb)) throw methodNotAllowed();
    switch (request.verb) {
      case 'get':
        return send(200, objects.get(type, target.namespace, target.name ?? ''));
      case 'list': {
        const page = objects.list(type, listQuery(request));
        return send(200, listObject(type, page));
      }
      case 'watch': {
        core.guard();
        const timeout = Number(request.query.get('timeoutSeconds'));
        const query = listQuery(request);
        return serveWatch(objects, type, response, core.clock, {
          ...query,
          fieldSelector: target.name ? `metadata.name=${target.name}` : (query.fieldSelector ?? null),
          resourceVersion: request.query.get('resourceVersion'),
          timeoutSeconds: timeout > 0 ? timeout : undefined,
          bookmarks: isTrue(request.query.get('allowWatchBookmarks')),
          sendInitialEvents: isTrue(request.query.get('sendInitialEvents')),
          render: (object) => this.#render(request, type, object),
        });
      }
      case 'create':
        if (target.name !== undefined) throw methodNotAllowed();
        if (type.namespaced && target.namespace === undefined) throw methodNotAllowed();
        return send(201, objects.create(type, target.namespace, request.body, options));
      case 'update': {
        const name = target.name ?? '';
        return send(200, objects.replace(type, target.namespace, name, request.body, options));
      }
      case 'patch': {
        const name = target.name ?? '';
        const existed = core.store.get(type.storage, target.namespace, name) !== undefined;
        const contentType = (message.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
        return send(
          existed ? 200 : 201,
          objects.patch(type, target.namespace, name, contentType, request.body, options),
        );
      }
      case 'delete': {
        const result = objects.delete(type, target.namespace, target.name ?? '', deleteOptions(request));
        if ('going' in result) return send(200, result.going);
        const { metadata } = result.gone;
        return this.#send(response, 200, {
          kind: 'Status',
          apiVersion: 'v1',
          metadata: {},
          status: 'Success',
          details: {
            name: metadata.name,
            ...(type.group ? { group: type.group } : {}),
            kind: type.plural,
            uid: metadata.uid,
          },
        });
      }
      case 'deletecollection': {
        if (type.namespaced && target.namespace === undefined) throw methodNotAllowed();
        const page = objects.list(type, listQuery(request));
        for (const item of page.items)
          objects.delete(type, item.metadata.namespace, item.metadata.name, deleteOptions(request));
        return send(200, listObject(type, page));
      }
      default:
        throw methodNotAllowed();
    }
  }

  /** The object as the Accept header wants it: table, metadata only or whole. */
  #render(request: ApiRequest, type: ResourceType, object: Json): Json {
    const accept = request.headers.accept ?? '';
    if (object?.kind === 'Status') return object;
    const isList = Array.isArray(object?.items);
    if (/as=Table/.test(accept)) {
      const items: KubeObject[] = isList ? object.items : [object];
      const metadata = isList ? object.metadata : { resourceVersion: object.metadata?.resourceVersion };
      return toTable(type, items, metadata, request.query.get('includeObject'), this.core.clock.now());
    }
    if (/as=PartialObjectMetadata(List)?/.test(accept)) {
      const partial = (item: KubeObject) => ({
        kind: 'PartialObjectMetadata',
        apiVersion: 'meta.k8s.io/v1',
        metadata: item.metadata,
      });
      return isList
        ? {
            kind: 'PartialObjectMetadataList',
            apiVersion: 'meta.k8s.io/v1',
            metadata: object.metadata,
            items: object.items.map(partial),
          }
        : partial(object);
    }
    return object;
  }

  #path(request: ApiRequest, response: ServerResponse): void {
    const { core } = this;
    const { path } = request;
    if (request.method !== 'GET' && request.method !== 'HEAD') throw methodNotAllowed();
    const accept = request.headers.accept ?? '';
    const wanted =
      /application\/json;[^,]*g=apidiscovery\.k8s\.io;[^,]*v=(v2(?:beta1)?);[^,]*as=APIGroupDiscoveryList/.exec(
        accept.replaceAll(' ', ''),
      );
    const plain = path.length > 1 ? path.replace(/\/$/, '') : path;
    if (/^\/(healthz|livez|readyz)(\/.*)?$/.test(plain)) return this.#health(plain, request, response);
    if (plain === '/version') return this.#send(response, 200, versionInfo(core.version));
    if (plain === '/api' || plain === '/apis') {
      if (wanted) {
        const version = wanted[1] ?? 'v2';
        return this.#send(
          response,
          200,
          aggregated(core.registry, plain === '/api', `apidiscovery.k8s.io/${version}`),
          `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
        );
      }
      return this.#send(
        response,
        200,
        plain === '/api'
          ? { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }
          : apiGroupList(core.registry),
      );
    }
    const parts = plain.split('/').slice(1);
    let body: Json;
    if (parts[0] === 'api' && parts.length === 2) body = apiResourceList(core.registry, '', parts[1] ?? '');
    if (parts[0] === 'apis' && parts.length === 2) body = apiGroup(core.registry, parts[1] ?? '');
    if (parts[0] === 'apis' && parts.length === 3)
      body = apiResourceList(core.registry, parts[1] ?? '', parts[2] ?? '');
    if (plain === '/openapi/v3') body = openApiIndex(core.registry);
    else if (plain.startsWith('/openapi/v3/'))
      body = openApiV3(core.registry, plain.slice('/openapi/v3/'.length), core.version);
    if (plain === '/openapi/v2') {
      if (/proto/.test(accept)) {
        response.writeHead(200, {
          'content-type': 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf',
        });
        response.end(openApiV2Protobuf(core.version));
        return;
      }
      body = openApiV2(core.registry, core.version);
    }
    if (plain === '/')
      body = {
        paths: [
          '/api',
          '/api/v1',
          '/apis',
          '/healthz',
          '/livez',
          '/openapi/v2',
          '/openapi/v3',
          '/readyz',
          '/version',
        ],
      };
    if (body === undefined) throw noSuchPath();
    this.#send(response, 200, body);
  }

  #health(path: string, request: ApiRequest, response: ServerResponse): void {
    const etcd = this.core.healthy();
    const [, kind, check] = path.split('/');
    // livez leaves etcd out only when told to, as the real one.
    const ok =
      etcd || request.query.getAll('exclude').includes('etcd') || (check !== undefined && check !== 'etcd');
    const verbose = request.query.has('verbose') || !ok;
    const lines = [
      '[+]ping ok',
      '[+]log ok',
      etcd ? '[+]etcd ok' : '[-]etcd failed: reason withheld',
      '[+]poststarthook/rbac/bootstrap-roles ok',
    ];
    const text = verbose ? `${lines.join('\n')}\n${kind} check ${ok ? 'passed' : 'failed'}\n` : 'ok';
    response.writeHead(ok ? 200 : 500, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(text);
  }

  #send(response: ServerResponse, code: number, body: Json, contentType = 'application/json'): void {
    const text = `${JSON.stringify(body)}\n`;
    response.writeHead(code, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-cache, private',
    });
    response.end(text);
  }

  #fail(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    if (!(error instanceof ApiError)) {
      if (response.destroyed || (error as NodeJS.ErrnoException)?.code === 'ECONNRESET') return;
      this.core.log.error({ error }, 'simulated API server failed');
    }
    const status =
      error instanceof ApiError
        ? error
        : new ApiError(500, 'InternalError', `Internal error occurred: ${String(error)}`);
    if (status.details?.retryAfterSeconds !== undefined)
      response.setHeader('retry-after', String(status.details.retryAfterSeconds));
    this.#send(response, status.code, status.toStatus());
  }
}

function decodeBody(raw: Buffer, message: IncomingMessage): Json {
  if (raw.length === 0) return undefined;
  const type = (message.headers['content-type'] ?? 'application/json').split(';')[0]?.trim() ?? '';
  try {
    const text = (message.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw).toString('utf8');
    if (type === 'application/apply-patch+yaml' || type === 'application/yaml') return parseYaml(text);
    if (/^application\/([a-z-]+\+)?json$/.test(type)) return JSON.parse(text);
    if (type === 'application/vnd.kubernetes.protobuf') {
      const decoded = decodeProtobuf(raw);
      if (decoded !== undefined) return decoded;
    }
  } catch (error) {
    throw badRequest(`error decoding the body: ${error instanceof Error ? error.message : error}`);
  }
  throw new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got ${type})`,
  );
}

function listQuery(request: ApiRequest): ListQuery {
  const { query, target } = request;
  return {
    namespace: target?.namespace,
    labelSelector: query.get('labelSelector'),
    fieldSelector: query.get('fieldSelector'),
    limit: Number(query.get('limit') ?? 0),
    continueToken: query.get('continue'),
  };
}

function listObject(
  type: ResourceType,
  page: { items: KubeObject[]; resourceVersion: string; continueToken?: string; remaining?: number },
): Json {
  return {
    kind: `${type.kind}List`,
    apiVersion: type.group ? `${type.group}/${type.version}` : type.version,
    metadata: {
      resourceVersion: page.resourceVersion,
      ...(page.continueToken ? { continue: page.continueToken, remainingItemCount: page.remaining } : {}),
    },
    items: page.items,
  };
}

function writeOptions(request: ApiRequest, warnings: string[]): WriteOptions {
  const { query, headers, target, user } = request;
  const agent = (headers['user-agent'] ?? 'unknown').split('/')[0] || 'unknown';
  const applying = (headers['content-type'] ?? '').startsWith('application/apply-patch');
  const fieldManager = query.get('fieldManager') ?? (applying ? '' : agent);
  if (fieldManager.length > 128)
    throw new ApiError(
      422,
      'Invalid',
      `Options.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes`,
    );
  const dryRun = query.getAll('dryRun');
  if (dryRun.some((value) => value !== 'All'))
    throw badRequest(`Invalid value: ${JSON.stringify(dryRun)}: dryRun: Unsupported value`);
  return {
    user,
    fieldManager,
    dryRun: dryRun.length > 0,
    force: isTrue(query.get('force') ?? 'false'),
    fieldValidation: query.get('fieldValidation') ?? 'Warn',
    warn: (text) => warnings.push(text),
    ...(target?.subresource ? { subresource: target.subresource } : {}),
  };
}

function deleteOptions(request: ApiRequest): DeleteOptions {
  const { body, query } = request;
  const grace =
    body?.gracePeriodSeconds ??
    (query.has('gracePeriodSeconds') ? Number(query.get('gracePeriodSeconds')) : undefined);
  const propagation = body?.propagationPolicy ?? query.get('propagationPolicy');
  return {
    ...(grace === undefined || grace === null ? {} : { gracePeriodSeconds: grace }),
    ...(propagation ? { propagationPolicy: propagation } : {}),
    ...(body?.preconditions ? { preconditions: body.preconditions } : {}),
    dryRun: (body?.dryRun?.length ?? 0) > 0 || query.getAll('dryRun').length > 0,
  };
}
