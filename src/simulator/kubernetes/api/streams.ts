/**
 * Upgraded requests: exec, attach and port-forward, over WebSocket (v5/v4.channel.k8s.io, and SPDY frames
 * tunnelled for port-forward) or plain SPDY/3.1. Refusals before the upgrade are Status bodies.
 */
import type { IncomingMessage } from 'node:http';
import { PassThrough, type Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import { ChannelOutput } from './channel-output.ts';
import type { ApiCore, ExecRequest } from './core.ts';
import type { Json, KubeObject } from './json.ts';
import type { ApiRequest } from './request.ts';
import { isTrue } from './request.ts';
import { SpdyConnection, type SpdyStream } from './spdy.ts';
import { ApiError, badRequest, noSuchPath } from './status.ts';
import { chooseContainer } from './subresources.ts';

const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;
const COMMAND_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'channel.k8s.io'];
const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
const SPDY_COMMAND_PROTOCOLS = ['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io'];
const SPDY_FORWARD_PROTOCOL = 'portforward.k8s.io';

/** Throws ApiError before the upgrade was answered. */
export async function serveStream(
  core: ApiCore,
  request: ApiRequest,
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { target, query } = request;
  const type = target && core.registry.find(target.group, target.version, target.plural);
  if (!type || !target?.name || !['exec', 'attach', 'portforward'].includes(target.subresource ?? ''))
    throw noSuchPath();
  const pod = core.objects.get(type, target.namespace, target.name);
  if (!core.pods) throw new ApiError(500, 'InternalError', 'no kubelet behind this API server');
  core.pods.reach(pod);
  if (target.subresource === 'portforward') return forward(core, pod, query, message, socket, head);
  const container = chooseContainer(pod, query.get('container'));
  if (pod.status?.phase !== 'Running')
    throw badRequest(`container ${container} is not running: the pod is ${pod.status?.phase}`);
  const attach = target.subresource === 'attach';
  const command = query.getAll('command');
  if (!attach && command.length === 0)
    throw badRequest('you must specify at least one command for the container');
  const wants: Wants = {
    container,
    command: attach ? ['attach'] : command,
    attach,
    stdin: isTrue(query.get('stdin') ?? 'false'),
    stdout: isTrue(query.get('stdout') ?? 'false'),
    stderr: isTrue(query.get('stderr') ?? 'false') && !isTrue(query.get('tty') ?? 'false'),
    tty: isTrue(query.get('tty') ?? 'false'),
  };
  if (isUpgrade(message, 'websocket')) return commandOverWebSocket(core, pod, wants, message, socket, head);
  if (isUpgrade(message, 'spdy/3.1')) return commandOverSpdy(core, pod, wants, message, socket, head);
  throw badRequest('Upgrade request required');
}

interface Wants {
  readonly container: string;
  readonly command: readonly string[];
  readonly attach: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

const isUpgrade = (message: IncomingMessage, to: string) =>
  (message.headers.upgrade ?? '').toLowerCase() === to;

async function webSocket(
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocols: readonly string[],
): Promise<WebSocket> {
  const offered = (message.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const chosen = offered.find((name) => protocols.includes(name));
  if (chosen === undefined)
    throw badRequest(
      `unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${protocols.join(' ')}]`,
    );
  const server = new WebSocketServer({
    noServer: true,
    handleProtocols: () => chosen,
    perMessageDeflate: false,
  });
  return new Promise((resolve) =>
    server.handleUpgrade(message, socket, head, (connection) => resolve(connection)),
  );
}

/** What clients read as the command's end. */
function outcome(code: number | Error): Json {
  if (code === 0) return { metadata: {}, status: 'Success' };
  if (typeof code === 'number')
    return {
      metadata: {},
      status: 'Failure',
      message: `command terminated with non-zero exit code: error executing command, exit code ${code}`,
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
    };
  return { metadata: {}, status: 'Failure', message: code.message, reason: 'InternalError', code: 500 };
}

async function run(
  core: ApiCore,
  pod: KubeObject,
  wants: Wants,
  io: Pick<ExecRequest, 'stdin' | 'stdout' | 'stderr'>,
  signal: AbortSignal,
): Promise<number | Error> {
  try {
    if (!core.pods) throw new Error('no kubelet');
    return await core.pods.exec(
      pod,
      { container: wants.container, command: wants.command, attach: wants.attach, tty: wants.tty, ...io },
      signal,
    );
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function commandOverWebSocket(
  core: ApiCore,
  pod: KubeObject,
  wants: Wants,
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const connection = await webSocket(message, socket, head, COMMAND_PROTOCOLS);
  const gone = new AbortController();
  const stdin = new PassThrough();
  connection.on('error', () => {});
  connection.on('close', () => {
    gone.abort(new Error('the client has gone'));
    stdin.end();
  });
  connection.on('message', (data: Buffer) => {
    const channel = data[0];
    // v5: the client closes its stdin without closing the connection.
    if (channel === CHANNEL.close && data[1] === CHANNEL.stdin) stdin.end();
    else if (
      channel === CHANNEL.stdin &&
      data.length > 1 &&
      !stdin.writableEnded &&
      !stdin.write(data.subarray(1))
    ) {
      connection.pause();
      stdin.once('drain', () => connection.resume());
    }
  });
  const output = new ChannelOutput(connection);
  output.send(CHANNEL.stdout, Buffer.alloc(0)); // tells the client that the streams are there
  const code = await run(
    core,
    pod,
    wants,
    {
      stdin: wants.stdin ? stdin : undefined,
      stdout: (chunk) => wants.stdout && output.send(CHANNEL.stdout, chunk),
      stderr: (chunk) => output.send(wants.tty ? CHANNEL.stdout : CHANNEL.stderr, chunk),
    },
    gone.signal,
  );
  output.send(CHANNEL.error, Buffer.from(JSON.stringify(outcome(code))));
  await output.close(1000);
}

/** Answers 101 with the chosen stream protocol. Throws ApiError when there is none in common. */
function acceptSpdy(
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocols: readonly string[],
): SpdyConnection {
  const offered = (message.headersDistinct['x-stream-protocol-version'] ?? [])
    .flatMap((line) => line.split(','))
    .map((name) => name.trim());
  const chosen = offered.find((name) => protocols.includes(name));
  if (chosen === undefined)
    throw new ApiError(
      403,
      'Forbidden',
      `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${protocols.join(' ')}]`,
    );
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${chosen}\r\n\r\n`,
  );
  return new SpdyConnection(socket, head);
}

async function commandOverSpdy(
  core: ApiCore,
  pod: KubeObject,
  wants: Wants,
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const connection = acceptSpdy(message, socket, head, SPDY_COMMAND_PROTOCOLS);
  const gone = new AbortController();
  const streams = new Map<string, SpdyStream>();
  const expected = [
    'error',
    ...(wants.stdin ? ['stdin'] : []),
    ...(wants.stdout ? ['stdout'] : []),
    ...(wants.stderr ? ['stderr'] : []),
    ...(wants.tty ? ['resize'] : []),
  ];
  connection.once('close', () => gone.abort(new Error('the client has gone')));
  await new Promise<void>((resolve) => {
    connection.once('close', resolve);
    connection.on('stream', (stream) => {
      const kind = stream.headers.get('streamtype') ?? '';
      streams.set(kind, stream);
      if (kind === 'resize') stream.input.resume();
      if (expected.every((name) => streams.has(name))) resolve();
    });
  });
  if (gone.signal.aborted) return;
  const code = await run(
    core,
    pod,
    wants,
    {
      stdin: streams.get('stdin')?.input,
      stdout: (chunk) => streams.get('stdout')?.write(chunk),
      stderr: (chunk) => (streams.get('stderr') ?? streams.get('stdout'))?.write(chunk),
    },
    gone.signal,
  );
  streams.get('error')?.write(Buffer.from(JSON.stringify(outcome(code))));
  for (const stream of streams.values()) stream.end();
  connection.close();
}

async function forward(
  core: ApiCore,
  pod: KubeObject,
  query: URLSearchParams,
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  if (pod.status?.phase !== 'Running')
    throw badRequest(
      `unable to forward port because pod is not running. Current status=${pod.status?.phase}`,
    );
  if (isUpgrade(message, 'spdy/3.1'))
    return forwardStreams(core, pod, acceptSpdy(message, socket, head, [SPDY_FORWARD_PROTOCOL]));
  if (!isUpgrade(message, 'websocket')) throw badRequest('Upgrade request required');
  const connection = await webSocket(message, socket, head, [
    TUNNEL_PROTOCOL,
    'v4.channel.k8s.io',
    'portforward.k8s.io',
  ]);
  connection.on('error', () => {});
  if (connection.protocol === TUNNEL_PROTOCOL)
    return forwardStreams(core, pod, new SpdyConnection(createWebSocketStream(connection)));
  return forwardChannels(
    core,
    pod,
    query
      .getAll('ports')
      .flatMap((text) => text.split(','))
      .map(Number),
    connection,
  );
}

/** SPDY: one pair of streams (error, data) per connection, matched by requestID. */
function forwardStreams(core: ApiCore, pod: KubeObject, connection: SpdyConnection): void {
  const errors = new Map<string, SpdyStream>();
  connection.on('stream', (stream) => {
    const id = stream.headers.get('requestid') ?? String(stream.id);
    if (stream.headers.get('streamtype') === 'error') {
      errors.set(id, stream);
      stream.input.resume();
      return;
    }
    const port = Number(stream.headers.get('port'));
    void pipeToPod(core, pod, port, stream.input, (chunk) => stream.write(chunk)).then((failure) => {
      const error = errors.get(id);
      if (failure) error?.write(Buffer.from(failure));
      stream.end();
      error?.end();
      errors.delete(id);
    });
  });
}

/** WebSocket channels: two per port (data 2n, error 2n+1), each begins with the port as two bytes. */
function forwardChannels(core: ApiCore, pod: KubeObject, ports: number[], connection: WebSocket): void {
  const inputs = ports.map((port, index) => {
    const portBytes = Buffer.from([port & 0xff, port >> 8]);
    for (const channel of [index * 2, index * 2 + 1])
      connection.send(Buffer.concat([Buffer.from([channel]), portBytes]));
    const input = new PassThrough();
    void pipeToPod(core, pod, port, input, (chunk) =>
      connection.send(Buffer.concat([Buffer.from([index * 2]), chunk])),
    ).then((failure) => {
      if (failure && connection.readyState === connection.OPEN)
        connection.send(Buffer.concat([Buffer.from([index * 2 + 1]), Buffer.from(failure)]));
      connection.close();
    });
    return input;
  });
  connection.on('message', (data: Buffer) => inputs[(data[0] ?? 0) / 2]?.write(data.subarray(1)));
  connection.on('close', () => {
    for (const input of inputs) input.end();
  });
}

/** Carries bytes until one side ends; resolves with the error text for the client, if any. */
async function pipeToPod(
  core: ApiCore,
  pod: KubeObject,
  port: number,
  input: PassThrough,
  output: (chunk: Buffer) => void,
): Promise<string | undefined> {
  try {
    if (!core.pods) throw new Error('no kubelet');
    const connection = await core.pods.connect(pod, port);
    connection.on('error', () => {});
    input.pipe(connection);
    for await (const chunk of connection) output(chunk as Buffer);
    return undefined;
  } catch (error) {
    return `error forwarding port ${port} to pod ${pod.metadata.uid}, uid : failed to execute portforward in network namespace: ${error instanceof Error ? error.message : error}`;
  }
}
