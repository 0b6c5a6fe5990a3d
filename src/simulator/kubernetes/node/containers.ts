/**
 * Running containers of one cluster: their output, their files, and the way of the API server to them through
 * the kubelet (its own client certificate, its own rights, a machine that must answer).
 */
import { PassThrough, type Duplex } from 'node:stream';
import { EventEmitter, once } from 'node:events';
import type { ExecRequest, PodAccess } from '../api/core.ts';
import type { Json, KubeObject } from '../api/json.ts';
import { isAllowed } from '../api/rbac.ts';
import { ApiError, badRequest } from '../api/status.ts';
import type { SimCluster } from './cluster.ts';
import { ContainerFiles } from './container-files.ts';
import { runHostScript } from './host-script.ts';
import { imageOutput } from './images.ts';
import { execProgram, runProgram, type ShellIo } from './shell.ts';
import { trivyOf } from './trivy.ts';

/** A container keeps this much of its output. */
const MAX_LOG_LINES = 5000;
/** A container without a command that writes says that it is alive now and then (hardware time). */
const ALIVE_MS = 10_000;
/** Of a log that stands in for a termination message. */
const MESSAGE_LINES = 80;
const MESSAGE_BYTES = 2048;
const TRIVY = /\/trivy(:|$|@)/;

interface LogLine {
  readonly at: string;
  readonly text: string;
}

class Container {
  readonly files: ContainerFiles;
  /** Of the main program, for who attaches; nobody reads it in a container without `stdin: true`. */
  readonly stdin = new PassThrough();
  readonly lines: LogLine[] = [];
  /** Lines that were printed before the oldest that is kept: readers count from the first ever. */
  dropped = 0;
  readonly grown = new EventEmitter<{ line: [] }>();
  ended = false;
  /** Runs something that this double does not know: it only says that it lives, and only while somebody listens. */
  quiet = false;
  /** What the program wrote to its termination log. */
  message = '';
  #partial = '';

  constructor(pod: KubeObject) {
    this.files = new ContainerFiles({
      '/etc/hostname': `${pod.metadata.name}\n`,
      '/etc/os-release': 'ID=simulated\n',
    });
    this.grown.setMaxListeners(0);
  }

  print(chunk: Buffer, now: number): void {
    const parts = (this.#partial + chunk.toString('utf8')).split('\n');
    this.#partial = parts.pop() ?? '';
    for (const text of parts)
      this.lines.push({ at: `${new Date(now).toISOString().slice(0, -1)}000000Z`, text });
    if (this.lines.length > MAX_LOG_LINES)
      this.dropped += this.lines.splice(0, this.lines.length - MAX_LOG_LINES).length;
    this.grown.emit('line');
  }
}

export class Containers implements PodAccess {
  readonly #cluster: SimCluster;
  readonly #containers = new Map<string, Container>();

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
  }

  #of(pod: KubeObject, name: string): Container {
    const key = `${pod.metadata.uid}/${name}`;
    let container = this.#containers.get(key);
    if (!container) {
      container = new Container(pod);
      this.#containers.set(key, container);
    }
    return container;
  }

  forget(pod: KubeObject): void {
    for (const [key, container] of this.#containers) {
      if (!key.startsWith(`${pod.metadata.uid}/`)) continue;
      container.ended = true;
      container.grown.emit('line');
      this.#containers.delete(key);
    }
  }

  reach(pod: KubeObject): void {
    const { core, kubelets } = this.#cluster;
    const node: string | undefined = pod.spec?.nodeName;
    if (!node) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
    const kubelet = kubelets.get(node);
    if (!kubelet?.alive || !this.#cluster.site.network.isUp(kubelet.options.machine.ip)) {
      const ip = core.store.get('/nodes', undefined, node)?.status?.addresses?.[0]?.address ?? node;
      throw new ApiError(
        500,
        'InternalError',
        `Internal error occurred: error dialing backend: dial tcp ${ip}:10250: connect: no route to host`,
      );
    }
    const user = { name: 'kube-apiserver-kubelet-client', groups: ['system:authenticated'] };
    if (
      !isAllowed(core.store, user, {
        verb: 'get',
        group: '',
        resource: 'nodes',
        subresource: 'proxy',
        namespace: '',
        name: node,
      })
    )
      throw new ApiError(
        403,
        'Forbidden',
        `Forbidden (user=kube-apiserver-kubelet-client, verb=get, resource=nodes, subresource(s)=[proxy])`,
      );
  }

  /** Runs the container's own command until it ends or the pod does; resolves with its exit code. */
  async runMain(pod: KubeObject, spec: Json, signal: AbortSignal): Promise<number> {
    const { site } = this.#cluster;
    const container = this.#of(pod, spec.name);
    const now = () => site.clock.now();
    const print = (chunk: Buffer) => container.print(chunk, now());
    const command: string[] = [...(spec.command ?? []), ...(spec.args ?? [])];
    const known = imageOutput(spec.image, command, pod);
    const stdin = spec.stdin === true ? container.stdin : undefined;
    signal.addEventListener('abort', () => container.stdin.end(), { once: true });
    try {
      if (known !== undefined) {
        print(Buffer.from(known.text));
        return known.exitCode;
      }
      const onHost = await runHostScript(
        this.#cluster,
        pod,
        spec,
        (text) => print(Buffer.from(text)),
        (text) => {
          container.message = text;
        },
        signal,
      );
      if (onHost !== undefined) return onHost;
      if (isScript(command))
        return await runProgram(
          command,
          this.#io(pod, spec.name, { stdin, stdout: print, stderr: print, tty: false }, signal),
        );
      print(Buffer.from(`${spec.name}: started from ${spec.image}\n`));
      container.quiet = true;
      if (pod.spec.restartPolicy !== 'Always') return 0;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      return 0;
    } finally {
      container.ended = true;
      container.grown.emit('line');
    }
  }

  /** As the kubelet reports it of a container that has ended. */
  terminationMessage(pod: KubeObject, spec: Json, exitCode: number): string {
    const container = this.#of(pod, spec.name);
    if (container.message !== '' || exitCode === 0) return container.message;
    if (spec.terminationMessagePolicy !== 'FallbackToLogsOnError') return '';
    return container.lines
      .slice(-MESSAGE_LINES)
      .map(({ text }) => `${text}\n`)
      .join('')
      .slice(-MESSAGE_BYTES);
  }

  #io(
    pod: KubeObject,
    container: string,
    io: Pick<ShellIo, 'stdin' | 'stdout' | 'stderr' | 'tty'>,
    signal: AbortSignal,
  ): ShellIo {
    const { site } = this.#cluster;
    const spec = (pod.spec.containers ?? []).find((item: Json) => item.name === container);
    const environment: Record<string, string> = {
      HOSTNAME: pod.metadata.name,
      PATH: '/usr/bin:/bin',
      KUBERNETES_SERVICE_HOST: this.#cluster.core.kubernetesServiceIp,
    };
    for (const entry of spec?.env ?? [])
      if (typeof entry.value === 'string') environment[entry.name] = entry.value;
    return {
      ...io,
      files: this.#of(pod, container).files,
      environment,
      ...(TRIVY.test(spec?.image ?? '') && { programs: { trivy: trivyOf(this.#cluster, pod) } }),
      now: () => site.clock.now(),
      sleep: (ms) => site.pace.sleep(ms, signal),
    };
  }

  async *logs(
    pod: KubeObject,
    options: {
      container: string;
      follow: boolean;
      tailLines?: number;
      previous: boolean;
      timestamps: boolean;
    },
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    this.reach(pod);
    if (options.previous)
      throw badRequest(
        `previous terminated container "${options.container}" in pod "${pod.metadata.name}" not found`,
      );
    const status = (pod.status?.containerStatuses ?? []).find(
      (item: Json) => item.name === options.container,
    );
    const mirror = pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
    if (status?.state?.waiting && !mirror)
      throw badRequest(
        `container "${options.container}" in pod "${pod.metadata.name}" is waiting to start: ${status.state.waiting.reason}`,
      );
    const container = this.#of(pod, options.container);
    const show = (line: LogLine) => `${options.timestamps ? `${line.at} ` : ''}${line.text}\n`;
    const kept = container.lines.length;
    let at =
      container.dropped + (options.tailLines === undefined ? 0 : Math.max(0, kept - options.tailLines));
    for (;;) {
      while (at < container.dropped + container.lines.length) {
        const line = container.lines[at - container.dropped];
        at += 1;
        if (line) yield show(line);
      }
      if (!options.follow || container.ended || signal.aborted) return;
      await this.#nextLine(container, options.container, signal);
      if (signal.aborted) return;
    }
  }

  async #nextLine(container: Container, name: string, signal: AbortSignal): Promise<void> {
    const { pace, clock } = this.#cluster.site;
    const heard = new AbortController();
    const either = AbortSignal.any([signal, heard.signal]);
    const line = once(container.grown, 'line', { signal: either }).catch(() => {});
    const alive = pace.sleep(ALIVE_MS, either).then(
      () => container.quiet && container.print(Buffer.from(`${name}: alive\n`), clock.now()),
      () => {},
    );
    await Promise.race(container.quiet ? [line, alive] : [line]);
    heard.abort();
  }

  async exec(pod: KubeObject, request: ExecRequest, signal: AbortSignal): Promise<number> {
    this.reach(pod);
    if (!request.attach)
      return execProgram(request.command, this.#io(pod, request.container, request, signal));
    const container = this.#of(pod, request.container);
    let at = container.dropped + container.lines.length;
    if (request.stdin) void feed(request.stdin, container.stdin);
    while (!signal.aborted && !container.ended) {
      await this.#nextLine(container, request.container, signal);
      for (at = Math.max(at, container.dropped); at < container.dropped + container.lines.length; at += 1)
        request.stdout(Buffer.from(`${container.lines[at - container.dropped]?.text}\n`));
    }
    return 0;
  }

  /** A declared port answers: HTTP requests with a small page, anything else with its own bytes. */
  async connect(pod: KubeObject, port: number): Promise<Duplex> {
    this.reach(pod);
    const declared = (pod.spec?.containers ?? []).some((container: Json) =>
      (container.ports ?? []).some((item: Json) => item.containerPort === port),
    );
    if (!declared)
      throw new Error(`failed to dial ${port}: dial tcp4 127.0.0.1:${port}: connect: connection refused`);
    return new EchoConnection(pod.metadata.name);
  }
}

/** Who attaches leaves without closing the program's input. */
async function feed(from: AsyncIterable<Buffer>, to: PassThrough): Promise<void> {
  try {
    for await (const chunk of from) {
      if (!to.writable) return;
      if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
    }
  } catch {
    // the client has gone
  }
}

/** Bytes come back as they are; a first chunk that looks like an HTTP request gets an HTTP answer. */
class EchoConnection extends PassThrough {
  readonly #name: string;
  #http: boolean | undefined;

  constructor(name: string) {
    super();
    this.#name = name;
  }

  override _transform(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error?: Error | null, data?: Buffer) => void,
  ): void {
    this.#http ??= /^(GET|HEAD|POST|PUT) \S+ HTTP\/1\.[01]\r?\n/.test(chunk.toString('latin1'));
    if (!this.#http) return done(undefined, chunk);
    const body = `hello from ${this.#name}\n`;
    done(
      undefined,
      Buffer.from(
        `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
      ),
    );
    this.push(null);
  }
}

function isScript(command: readonly string[]): boolean {
  const name = command[0]?.split('/').at(-1) ?? '';
  return ['sh', 'bash', 'echo', 'cat', 'sleep', 'true', 'false', 'printf', 'env', 'date'].includes(name);
}
