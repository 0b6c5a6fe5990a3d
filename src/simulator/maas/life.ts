/**
 * The life of machines: what MAAS and the hardware do over time after an operation was accepted. Each
 * process (deploying, erasing, testing, ...) owns its machine until another takes over; power actions go
 * through the BMC. Durations are those of real hardware and are scaled by Pace.
 */
import type { Log } from '../../base/log.ts';
import type { MachineRuntime, Pace, SiteNetwork } from '../ports.ts';
import { seededRandom } from '../random.ts';
import type { FaultName, Faults, Strike } from './faults.ts';
import { DEPLOY_PHASES, FIRST_BOOT_MS, installLogLine, phaseDuration } from './installation.ts';
import { startEventWorker } from './event-worker.ts';
import type { Machine, User } from './model.ts';
import type { Region } from './region.ts';
import { Maintenance } from './maintenance.ts';
import { Processes } from './processes.ts';
import { afterCommit, type Reply } from './reply.ts';
import type { Status } from './status.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** How long a BMC takes to switch power on or off. */
const BMC_MS = 3 * SECOND;
/** From power-off to `Ready` when the power monitor must notice it. */
const RELEASE_TIMEOUT_MS = 5 * MINUTE;
const ERASE_QUICK_MS = 2 * MINUTE;
const ERASE_FULL_MS = 20 * MINUTE;

const ABORT_POWER_TEXT = 'Unable to power control the node. Please check power credentials.';

interface AbortTarget {
  readonly event: string;
  readonly to: Status;
}

export interface LifeOptions {
  readonly region: Region;
  readonly pace: Pace;
  readonly runtime: MachineRuntime;
  readonly network: SiteNetwork;
  readonly faults: Faults;
  readonly log: Log;
  readonly seed: number;
}

/** What a power action came to. `reply` is how MAAS reports the failure to the waiting client. */
export type PowerOutcome = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly reply: Reply };

export class MachineLife {
  readonly #region: Region;
  readonly #pace: Pace;
  readonly #runtime: MachineRuntime;
  readonly #network: SiteNetwork;
  readonly #faults: Faults;
  readonly #seed: number;
  readonly processes: Processes;
  readonly maintenance: Maintenance;
  /** Addresses of machines whose installed system has booted. */
  readonly #booted = new Map<string, readonly string[]>();
  /** Those among them that are without power. */
  readonly #dark = new Set<string>();

  constructor(options: LifeOptions) {
    this.#region = options.region;
    this.#pace = options.pace;
    this.#runtime = options.runtime;
    this.#network = options.network;
    this.#faults = options.faults;
    this.processes = new Processes(options.log);
    this.#seed = options.seed;
    this.maintenance = new Maintenance({
      region: this.#region,
      pace: this.#pace,
      processes: this.processes,
      note: (machine, type) => this.event(machine, 'INFO', type),
      halt: (machine) => this.halt(machine),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const systemId of this.#booted.keys()) this.#haltById(systemId);
    await this.processes[Symbol.asyncDispose]();
  }

  // The bricks

  strikes(name: FaultName, machine: Machine): Strike | undefined {
    return this.#faults.strikes(name, this.#region.faultSubject(machine));
  }

  event(
    machine: Machine,
    level: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR',
    type: string,
    text = '',
    user?: string,
  ) {
    this.#region.events.add(machine, this.#region.now(), level, type, text, user);
  }

  /** "(admin) - comment", the way MAAS notes a user's action. */
  userEvent(machine: Machine, type: string, user: User, comment = ''): void {
    const text = comment ? `(${user.username}) - ${comment}` : `(${user.username})`;
    this.event(machine, 'DEBUG', type, text, user.username);
  }

  #ledger(
    machine: Machine,
    action: 'deployed' | 'deploy-failed' | 'released' | 'delete',
    user: string,
  ): void {
    const { systemId, hostname, agentName } = machine;
    this.#region.ledger.record({ at: this.#region.now(), action, user, agentName, systemId, hostname });
  }

  // Power

  hasBmc(machine: Machine): boolean {
    return machine.powerType !== '' && machine.powerType !== 'manual';
  }

  /** MAAS learns the power state; that finishes a release and an exit from rescue mode. */
  noticePower(machine: Machine, state: 'on' | 'off'): void {
    machine.powerState = state;
    if (machine.status === 'releasing' && state === 'off') this.finishRelease(machine);
    if (machine.status !== 'exiting_rescue_mode') return;
    const expected = machine.previousStatus === 'deployed' ? 'on' : 'off';
    if (state === expected) this.maintenance.finishRescue(machine);
    else if (expected === 'on') {
      this.event(machine, 'ERROR', 'Failed exiting rescue mode');
      this.#region.changeStatus(machine, 'failed_exiting_rescue_mode');
    }
  }

  /** Switches power through the BMC and waits for it. */
  async power(machine: Machine, to: 'on' | 'off'): Promise<PowerOutcome> {
    const slow = this.strikes('slow-bmc', machine);
    await this.#pace.sleep(BMC_MS + (slow ? (slow.value ?? 60) * SECOND : 0), this.processes.stopped);
    if (this.strikes('rack-disconnected', machine)) {
      if (to === 'off') machine.powerState = 'unknown';
      const text = `Unable to connect to any rack controller ${this.#region.rackSystemId}; no connections available.`;
      return { kind: 'failed', reply: afterCommit(503, text, { 'Retry-After': '10' }) };
    }
    if (this.strikes('power-failure', machine))
      return { kind: 'failed', reply: afterCommit(500, 'Power action failed: IPMI connection timeout') };
    if (to === 'off' && machine.status === 'releasing' && this.strikes('release-stuck', machine))
      return { kind: 'done' };
    machine.bmcPower = to;
    if (to === 'off') this.#powerLost(machine);
    else if (machine.status === 'deployed') this.#powerBack(machine);
    this.noticePower(machine, to);
    return { kind: 'done' };
  }

  /** The installed system and everything on it is gone. */
  halt(machine: Machine): void {
    this.#haltById(machine.systemId);
  }

  #haltById(systemId: string): void {
    const ips = this.#booted.get(systemId);
    if (!ips) return;
    this.#booted.delete(systemId);
    this.#runtime.stop(systemId);
    if (this.#dark.delete(systemId)) return;
    for (const ip of ips) this.#network.setAddressUp(ip, false);
  }

  /** Nothing runs any more; what was installed waits on the disks. */
  #powerLost(machine: Machine): void {
    const { systemId } = machine;
    const ips = this.#booted.get(systemId);
    if (machine.status !== 'deployed' || !ips) return this.halt(machine);
    if (this.#dark.has(systemId)) return;
    this.#dark.add(systemId);
    if (this.#runtime.powerOff) this.#runtime.powerOff(systemId);
    else this.#runtime.stop(systemId);
    for (const ip of ips) this.#network.setAddressUp(ip, false);
  }

  /** A deployed machine boots from its disk. */
  #powerBack(machine: Machine): void {
    const { systemId } = machine;
    if (!this.#dark.delete(systemId)) return;
    for (const ip of this.#booted.get(systemId) ?? []) this.#network.setAddressUp(ip, true);
    this.#runtime.resume?.(systemId);
  }

  // Deploying

  /** A failed start inside the request: addresses back, Allocated again, with MAAS's warning. */
  revertDeploy(machine: Machine, user: User): void {
    this.#region.releaseAutoIps(machine);
    const text = `(${user.username}) - Aborting DEPLOYING and reverting to ALLOCATED. ${ABORT_POWER_TEXT}`;
    this.event(machine, 'WARNING', "Failed to query node's BMC", text);
    this.#region.changeStatus(machine, 'allocated');
  }

  /** For versions that report it later: Failed deployment, with text and event unless `silent`. */
  failDeploy(machine: Machine, text: string, silent = false): void {
    if (!silent) {
      machine.errorDescription = text;
      this.event(machine, 'ERROR', 'Marking node failed', text);
    }
    if (this.#region.changeStatus(machine, 'failed_deployment'))
      this.#ledger(machine, 'deploy-failed', machine.owner ?? '');
  }

  /** Power is on: PXE, curtin, first boot. */
  install(machine: Machine): void {
    machine.incarnation += 1;
    machine.installLog = '';
    const random = seededRandom(this.#seed, `install ${machine.systemId} ${machine.incarnation}`);
    const stuck = this.strikes('deploy-stuck', machine)
      ? 'for ever'
      : this.strikes('deploy-timeout', machine) && 'until timeout';
    const fails = !stuck && this.strikes('deploy-failed', machine) !== undefined;
    const late = this.strikes('late-events', machine);
    const tellLater =
      late &&
      startEventWorker(machine, {
        region: this.#region,
        pace: this.#pace,
        processes: this.processes,
        periodMs: (late.value ?? 60) * SECOND,
      });
    this.processes.begin(machine, 'deploy', async (signal) => {
      for (const phase of DEPLOY_PHASES) {
        if (stuck && phase.name === 'storage') return await this.#stayStuck(machine, stuck, signal);
        await this.#pace.sleep(phaseDuration(phase, random), signal);
        const tell = phase.name === 'pxe' ? undefined : tellLater;
        for (const [level, type, text = ''] of phase.events)
          if (tell) tell(level, type, text);
          else this.event(machine, level, type, text);
        machine.installLog += installLogLine(phase.name);
        if (fails && phase.name === 'extract') {
          machine.installLog +=
            'curtin: Installation failed with exception: Unexpected error while running command.\n';
          this.event(machine, 'ERROR', 'Node installation failure', "'curtin' curtin command install");
          this.failDeploy(
            machine,
            'Installation failed (refer to the installation log for more information).',
          );
          return;
        }
        if (phase.name === 'reboot') machine.netboot = false;
      }
      await this.#pace.sleep(FIRST_BOOT_MS * (0.8 + random.next() * 0.4), signal);
      this.#firstBoot(machine);
    });
  }

  async #stayStuck(machine: Machine, how: 'for ever' | 'until timeout', signal: AbortSignal): Promise<void> {
    if (how === 'for ever') return;
    const minutes = this.#region.flavour.deployTimeoutMin;
    await this.#pace.sleep(minutes * MINUTE, signal);
    this.failDeploy(machine, `Node operation 'Deploying' timed out after ${minutes} minutes.`);
  }

  /** Cloud-init of the installed system fetches user-data: this, not its end, is Deployed. */
  #firstBoot(machine: Machine): void {
    const region = this.#region;
    const image = `${machine.osystem}/${machine.distroSeries}`;
    this.event(machine, 'INFO', 'Image Deployed', `deployed ${image}/${machine.architecture}`);
    if (!region.changeStatus(machine, 'deployed')) return;
    this.event(machine, 'INFO', 'Deployed');
    this.#ledger(machine, 'deployed', machine.owner ?? '');
    for (const one of region.images) if (image.endsWith(one.name)) one.lastDeployedAt = region.now();
    const ips = region.machineIps(machine);
    const [ip = ''] = ips;
    const subnet = region.subnetOf(ip);
    for (const one of ips) this.#network.setAddressUp(one, true);
    this.#booted.set(machine.systemId, ips);
    const { incarnation } = machine;
    const current = () => machine.incarnation === incarnation && this.#booted.has(machine.systemId);
    this.#runtime.boot(
      {
        systemId: machine.systemId,
        hostname: machine.hostname,
        fqdn: region.fqdn(machine),
        zone: region.zone(machine.zoneId).name,
        ip,
        subnetCidr: subnet?.cidr ?? '',
        cpuCount: machine.cpuCount,
        memoryMiB: machine.memoryMiB,
        image,
        userData: decodeUserData(machine.userData),
      },
      {
        event: (level, type, text) => {
          if (current()) this.event(machine, level, type, text);
        },
        log: (text) => {
          if (current()) machine.installLog += text;
        },
      },
    );
    this.#afterBoot(machine);
  }

  #afterBoot(machine: Machine): void {
    if (this.strikes('cloud-init-failed', machine))
      this.event(machine, 'ERROR', 'Node post-installation failure', "'cloudinit' running modules for final");
    const dies = this.strikes('machine-dies', machine);
    if (dies)
      this.processes.begin(machine, 'death', async (signal) => {
        await this.#pace.sleep((dies.value ?? 60) * SECOND, signal);
        machine.bmcPower = 'off';
        this.#powerLost(machine);
        await this.#pace.sleep(MINUTE, signal); // until the power poller looks
        machine.powerState = 'off';
      });
  }

  // Releasing

  /** From here on MAAS calls it Releasing; owner, annotations and addresses go only when power is off. */
  startRelease(machine: Machine): void {
    this.processes.interrupt(machine);
    machine.previousStatus = machine.status;
    this.#region.changeStatus(machine, 'releasing');
    this.event(machine, 'INFO', 'Releasing');
    this.#forgetDeployment(machine);
  }

  #forgetDeployment(machine: Machine): void {
    machine.agentName = '';
    machine.osystem = '';
    machine.distroSeries = '';
    machine.hweKernel = null;
    machine.enableHwSync = false;
    machine.ephemeralDeploy = false;
    machine.netboot = true;
  }

  /** If the machine has not gone off yet, MAAS gives up after five minutes. */
  awaitPowerOff(machine: Machine): void {
    if (machine.status !== 'releasing') return;
    this.processes.begin(machine, 'release', async (signal) => {
      await this.#pace.sleep(RELEASE_TIMEOUT_MS, signal);
      const text = "Node operation 'Releasing' timed out after 5 minutes.";
      machine.errorDescription = text;
      this.event(machine, 'ERROR', 'Marking node failed', text);
      this.#region.changeStatus(machine, 'failed_releasing');
    });
  }

  /** Owner, annotations and addresses are given back; composed machines are gone. */
  finishRelease(machine: Machine): void {
    this.processes.interrupt(machine);
    this.halt(machine);
    const owner = machine.owner ?? '';
    this.#region.releaseAutoIps(machine);
    machine.owner = null;
    machine.ownerData.clear();
    machine.userData = null;
    machine.installLog = '';
    this.event(machine, 'INFO', 'Released');
    const toNew = this.#region.flavour.releaseToNew && !machine.commissioned;
    this.#region.changeStatus(machine, toNew ? 'new' : 'ready');
    this.#ledger(machine, 'released', owner);
    if (machine.composed) this.#region.removeMachine(machine);
  }

  /** Reboots into the ephemeral system, wipes, then releases. */
  startErase(machine: Machine, quick: boolean): void {
    machine.previousStatus = machine.status;
    this.halt(machine);
    this.#region.changeStatus(machine, 'disk_erasing');
    machine.netboot = true;
    this.processes.begin(machine, 'erase', async (signal) => {
      await this.#pace.sleep(BMC_MS, signal);
      machine.bmcPower = 'on';
      machine.powerState = 'on';
      if (this.strikes('erase-stuck', machine)) return;
      await this.#pace.sleep(quick ? ERASE_QUICK_MS : ERASE_FULL_MS, signal);
      if (this.strikes('erase-failed', machine)) {
        machine.errorDescription = 'Failed to erase disks.';
        this.event(machine, 'ERROR', 'Marking node failed', 'Failed to erase disks.');
        this.#region.changeStatus(machine, 'failed_disk_erasing');
        return;
      }
      this.#region.changeStatus(machine, 'releasing');
      this.event(machine, 'INFO', 'Releasing');
      this.#forgetDeployment(machine);
      await this.#pace.sleep(BMC_MS, signal);
      machine.bmcPower = 'off';
      this.noticePower(machine, 'off');
    });
  }

  /** The machine is deleted from MAAS, whatever it does. */
  forget(machine: Machine): void {
    this.processes.interrupt(machine);
    this.halt(machine);
    this.#ledger(machine, 'delete', machine.owner ?? '');
    this.#region.removeMachine(machine);
  }

  /** After `abort`: the machine goes off and back to where it came from. */
  abortTarget(machine: Machine): AbortTarget | undefined {
    const targets: Partial<Record<Status, AbortTarget>> = {
      deploying: { event: 'Aborted deployment', to: 'allocated' },
      commissioning: { event: 'Aborted commissioning', to: 'new' },
      testing: { event: 'Aborted testing', to: machine.previousStatus },
      disk_erasing: { event: 'Aborted disk erasing', to: 'failed_disk_erasing' },
    };
    return targets[machine.status];
  }

  finishAbort(machine: Machine, to: Status): void {
    this.maintenance.returnTo(machine, to);
  }
}

/** What the metadata service serves: decoded when it is strict base64, else the text itself. */
export function decodeUserData(text: string | null): string {
  if (text === null) return '';
  const decoded = Buffer.from(text, 'base64');
  return decoded.toString('base64') === text ? decoded.toString('utf8') : text;
}
