/**
 * One machine from power-on to power-off: cloud-init reads the user-data, runs its commands, and reports to
 * MAAS what went wrong in the same words. Everything on the machine ends with `stop`.
 */
import type { BootedMachine, MachineConsole } from '../../ports.ts';
import { readCloudConfig } from './cloud-config.ts';
import type { SimCluster, Site } from './cluster.ts';
import type { NodeContext } from './context.ts';
import { ControlPlane } from './control-plane.ts';
import { kubeadmInit } from './init.ts';
import { kubeadmJoin } from './join.ts';
import { KubeadmError } from './kubeadm-config.ts';
import { KUBE_VIP_MANIFEST, runKubeVip } from './kube-vip.ts';
import { Kubelet } from './kubelet.ts';

/** Milliseconds on real hardware. */
const TIMES = { boot: 20_000, packages: 75_000, prebaked: 5000, retry: 15_000 };
const BOOTSTRAP_SCRIPT = '/usr/local/sbin/pcg-bootstrap';
const INIT_FILE = '/run/kubeadm/kubeadm.yaml';
const JOIN_FILE = '/run/kubeadm/kubeadm-join-config.yaml';
/** The script tries a worker's join this often; a control-plane join only once. */
const WORKER_TRIES = 3;
/** Newest release that this double knows, for files that name no version. */
const NEWEST_VERSION = 'v1.37.0';

export type MachinePhase = 'booting' | 'bootstrapping' | 'node' | 'failed' | 'idle' | 'stopped';

export class SimMachine {
  readonly machine: BootedMachine;
  readonly #site: Site;
  readonly #console: MachineConsole;
  readonly #clusters: Set<SimCluster>;
  #stop = new AbortController();
  #control: ControlPlane | undefined;
  #kubelet: Kubelet | undefined;
  /** What cloud-init wrote, and whether the machine had become a node when its power went. */
  #files: NodeContext['files'] | undefined;
  #installed: NodeContext['files'] | undefined;
  phase: MachinePhase = 'booting';
  /** What kubeadm or cloud-init said at the end, when it failed. */
  failure: string | undefined;

  constructor(site: Site, machine: BootedMachine, console: MachineConsole, clusters: Set<SimCluster>) {
    this.#site = site;
    this.machine = machine;
    this.#console = console;
    this.#clusters = clusters;
  }

  get control(): ControlPlane | undefined {
    return this.#control;
  }

  get kubelet(): Kubelet | undefined {
    return this.#kubelet;
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    this.#site.network.setAddressUp(this.machine.ip, true);
    this.#site.reached(this.machine.systemId, 'boot');
    try {
      await this.#site.pace.sleep(TIMES.boot, signal);
      await this.#cloudInit();
    } catch (error) {
      if (signal.aborted) return;
      this.#fail(error);
    }
  }

  /** Released: nothing of it is left. */
  stop(): void {
    this.powerOff();
    const control = this.#control;
    this.#control = undefined;
    if (control) void control[Symbol.asyncDispose]();
  }

  /** At once, and for everything on the machine. */
  powerOff(): void {
    if (this.phase === 'stopped') return;
    this.#installed = this.phase === 'node' ? this.#files : undefined;
    this.phase = 'stopped';
    this.#stop.abort(new Error('the machine was stopped'));
    this.#kubelet?.stop();
    this.#control?.stop();
    this.#site.network.setAddressUp(this.machine.ip, false);
  }

  /** Boots from the disk: cloud-init does not run again, static pods and the kubelet do. Never rejects. */
  async resume(): Promise<void> {
    const before = { control: this.#control, kubelet: this.#kubelet };
    const files = this.#installed;
    if (this.phase !== 'stopped') return;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.#site.network.setAddressUp(this.machine.ip, true);
    if (files === undefined || !before.kubelet) {
      this.phase = 'idle'; // it was not a node yet: a half bootstrapped machine stays one
      return;
    }
    this.phase = 'booting';
    try {
      await this.#site.pace.sleep(TIMES.boot, signal);
      const { cluster, options } = before.kubelet;
      // A member that was removed meanwhile never starts again.
      if (before.control && cluster.etcd.get(before.control.memberId)) {
        cluster.etcd.started(before.control.memberId, options.nodeName, this.machine.ip);
        const control = await ControlPlane.start({
          cluster,
          machine: this.machine,
          nodeName: options.nodeName,
          port: before.control.port,
          advertise: this.machine.ip,
          memberId: before.control.memberId,
        });
        this.#own({ control });
        await before.control[Symbol.asyncDispose]();
        if (files.has(KUBE_VIP_MANIFEST))
          this.#background('kube-vip', (ended) => runKubeVip(control, files, ended));
      }
      const kubelet = new Kubelet(cluster, options);
      this.#own({ kubelet });
      this.phase = 'node';
      await this.#untilServed(kubelet, signal);
      kubelet.register();
      this.#background('kubelet', () => kubelet.run());
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  async #untilServed(kubelet: Kubelet, signal: AbortSignal): Promise<void> {
    while (!(await kubelet.apiReachable())) await this.#site.pace.sleep(TIMES.retry, signal);
  }

  #fail(error: unknown): void {
    this.phase = 'failed';
    const text = error instanceof Error ? error.message : String(error);
    this.failure = text;
    this.#console.log(`${text}\n`);
    this.#console.event(
      'ERROR',
      'NODE_POST_INSTALL_EVENT_FAILED',
      `'cloudinit' running config-scripts-user with frequency once-per-instance: FAIL: ${text}`,
    );
    if (!(error instanceof KubeadmError))
      this.#site.log.warn({ machine: this.machine.hostname, error: text }, 'simulated machine failed');
  }

  async #cloudInit(): Promise<void> {
    const { machine } = this;
    const config = readCloudConfig(machine.userData, machine);
    this.#files = config.files;
    for (const problem of config.problems) {
      this.#console.log(`cloud-init: ${problem}\n`);
      this.#console.event(
        'WARNING',
        'NODE_POST_INSTALL_EVENT_FAILED',
        `'cloudinit' running init-network: WARN: ${problem}`,
      );
    }
    if (config.commands.length === 0) {
      this.phase = 'idle';
      return;
    }
    this.phase = 'bootstrapping';
    // runcmd is one script without `set -e`: only the last command's status counts.
    let last: unknown;
    for (const command of config.commands) {
      last = undefined;
      try {
        await this.#runCommand(command, config.files);
      } catch (error) {
        if (this.#stop.signal.aborted) throw error;
        last = error;
      }
    }
    if (last !== undefined) throw last;
    this.phase = this.#kubelet ? 'node' : 'idle';
  }

  async #runCommand(command: string, files: NodeContext['files']): Promise<void> {
    const program = command.split(/\s+/)[0]?.replaceAll("'", '') ?? '';
    if (program === BOOTSTRAP_SCRIPT) return this.#bootstrapScript(files);
    const kubeadm = /\bkubeadm\s+(init|join)\b.*?--config[= ](\S+)/.exec(command);
    if (kubeadm) return this.#kubeadm(kubeadm[1] === 'init' ? 'init' : 'join', kubeadm[2] ?? '', files, 1);
  }

  async #bootstrapScript(files: NodeContext['files']): Promise<void> {
    const script = files.get(BOOTSTRAP_SCRIPT);
    if (!script)
      throw new Error(`/var/lib/cloud/instance/scripts/runcmd: 2: ${BOOTSTRAP_SCRIPT}: not found (exit 127)`);
    if ((script.mode & 0o100) === 0)
      throw new Error(
        `/var/lib/cloud/instance/scripts/runcmd: 2: ${BOOTSTRAP_SCRIPT}: Permission denied (exit 126)`,
      );
    this.#substitute(files);
    if (files.has(INIT_FILE)) return this.#kubeadm('init', INIT_FILE, files, 1);
    if (files.has(JOIN_FILE))
      return this.#kubeadm(
        'join',
        JOIN_FILE,
        files,
        /^\s*controlPlane:/m.test(files.get(JOIN_FILE)?.content ?? '') ? 1 : WORKER_TRIES,
      );
    throw new Error(`pcg-bootstrap: neither ${INIT_FILE} nor ${JOIN_FILE} exists (exit 66)`);
  }

  /** The script knows the machine's own address only when it runs. */
  #substitute(files: NodeContext['files']): void {
    const { ip, subnetCidr } = this.machine;
    for (const file of files.values())
      file.content = file.content
        .replaceAll('__NODE_IP__', ip)
        .replaceAll('__NODE_NETWORK__', subnetCidr)
        .replaceAll('__NODE_INTERFACE__', 'enp1s0');
  }

  async #kubeadm(
    kind: 'init' | 'join',
    path: string,
    files: NodeContext['files'],
    tries: number,
  ): Promise<void> {
    const { signal } = this.#stop;
    const { pace } = this.#site;
    await pace.sleep(this.machine.image.startsWith('custom/') ? TIMES.prebaked : TIMES.packages, signal);
    this.#site.reached(this.machine.systemId, 'kubeadm');
    const context: NodeContext = {
      site: this.#site,
      machine: this.machine,
      console: this.#console,
      files,
      signal,
      version: installedVersion(files, this.machine.image) ?? NEWEST_VERSION,
      clusters: this.#clusters,
      own: (part) => this.#own(part),
      background: (name, work) => this.#background(name, work),
    };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await (kind === 'init' ? kubeadmInit(context, path) : kubeadmJoin(context, path));
        this.#site.reached(this.machine.systemId, kind === 'init' ? 'init' : 'joined');
        this.#console.log(`kubeadm ${kind} finished\n`);
        return;
      } catch (error) {
        signal.throwIfAborted();
        this.#console.log(
          `kubeadm ${kind} attempt ${attempt}: ${error instanceof Error ? error.message : error}\n`,
        );
        if (attempt >= tries) throw error;
        files.delete('/etc/kubernetes/kubelet.conf');
        await pace.sleep(TIMES.retry, signal);
      }
    }
  }

  #own(part: { control?: ControlPlane; kubelet?: Kubelet }): void {
    if (part.control) this.#control = part.control;
    if (part.kubelet) {
      this.#kubelet = part.kubelet;
      part.kubelet.cluster.kubelets.set(part.kubelet.name, part.kubelet);
    }
    // Stopped in the middle: what was just made must not outlive the machine.
    if (this.#stop.signal.aborted) {
      part.kubelet?.stop();
      if (part.control) void part.control[Symbol.asyncDispose]();
    }
  }

  #background(name: string, work: (signal: AbortSignal) => Promise<void>): void {
    work(this.#stop.signal).catch((error: unknown) => {
      if (!this.#stop.signal.aborted)
        this.#site.log.warn(
          { machine: this.machine.hostname, part: name, error: String(error) },
          'simulated part of a machine ended',
        );
    });
  }
}

/** The version that the script installs, or the one baked into a prepared image (custom/u-2404-0-k-1361-0). */
function installedVersion(files: NodeContext['files'], image: string): string | undefined {
  for (const file of files.values()) {
    const named = /KUBERNETES_VERSION=["']?v?(\d+\.\d+\.\d+)/.exec(file.content);
    if (named) return `v${named[1]}`;
  }
  const baked = /-k-1(\d{2})(\d+)-/.exec(image);
  if (baked) return `v1.${baked[1]}.${baked[2]}`;
  for (const file of files.values()) {
    const named = /^kubernetesVersion:\s*["']?(v?\d+\.\d+\.\d+)/m.exec(file.content);
    if (named) return `v${named[1]?.replace(/^v/, '')}`;
  }
  return undefined;
}
