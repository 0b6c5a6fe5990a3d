/**
 * Seams inside the simulator: the MAAS double decides when a machine boots and stops, the Kubernetes double
 * decides what the booted machine does, and the site network carries bytes between simulated addresses.
 */
import type { Duplex } from 'node:stream';

/** The data centre's machine network: simulated IPv4 addresses and TCP ports, no real sockets. */
export interface SiteNetwork {
  /** Serves (ip, port) until disposed. Throws when the port is taken on that address. */
  listen(ip: string, port: number, accept: (socket: Duplex, from: string) => void): Disposable;
  /** Rejects with an Error carrying code ECONNREFUSED (address up, port closed) or EHOSTUNREACH (address down). */
  connect(ip: string, port: number, from?: string): Promise<Duplex>;
  /** Marks an address as up or down; listeners of a down address are unreachable. Several owners may hold one address in turn (VIP). */
  setAddressUp(ip: string, up: boolean): void;
  isUp(ip: string): boolean;
}

/** What a machine is when its installed OS boots for the first time. */
export interface BootedMachine {
  readonly systemId: string;
  readonly hostname: string;
  readonly fqdn: string;
  readonly zone: string;
  readonly ip: string;
  readonly subnetCidr: string;
  readonly cpuCount: number;
  readonly memoryMiB: number;
  /** `ubuntu/noble` or `custom/...`. */
  readonly image: string;
  /** Decoded user-data exactly as the metadata service would serve it. */
  readonly userData: string;
}

/** How the booted machine talks back to MAAS's metadata service. */
export interface MachineConsole {
  /** A node event, e.g. type NODE_POST_INSTALL_EVENT_FAILED. */
  event(level: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR', type: string, description: string): void;
  /** Appends to the installation log that `results` serves. */
  log(text: string): void;
}

/** One moment in the life of a booted machine, on the simulator's wall clock, milliseconds. */
export interface Milestone {
  readonly systemId: string;
  readonly at: number;
  /** `boot`, `kubeadm` (packages are there), `refused` (not let in yet, asks again), `discovered` (let in), `joined`, `init` (others may join), `ready`. */
  readonly what: 'boot' | 'kubeadm' | 'refused' | 'discovered' | 'init' | 'joined' | 'ready';
}

/** Life of machines after MAAS has installed them. Implemented by the Kubernetes double. */
export interface MachineRuntime {
  /** What booted machines went through, oldest first, for judging how long the hardware itself took. */
  milestones?(): readonly Milestone[];
  /** What the machines form now, and what stopped with those that went, for the simulator's own door. */
  clusters?(): readonly unknown[];
  departures?(): readonly unknown[];
  moments?(): readonly unknown[];
  boot(machine: BootedMachine, console: MachineConsole): void;
  /** The machine is released or wiped: everything on it is gone at once. */
  stop(systemId: string): void;
  /** The power is gone, the disks are not. */
  powerOff?(systemId: string): void;
  /** The power is back: what was installed boots again, as the same node with another boot id. */
  resume?(systemId: string): void;
}

/** Simulated time: real milliseconds for a duration that takes `ms` on real hardware. */
export interface Pace {
  /** Waits `ms` of simulated time. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  readonly speed: number;
}
