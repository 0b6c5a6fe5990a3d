/** What is done to machines that nobody uses: commissioning, hardware tests and the rescue system. */
import type { Pace } from '../ports.ts';
import type { Machine, User } from './model.ts';
import type { Processes } from './processes.ts';
import type { Region } from './region.ts';
import type { Status } from './status.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** How long a BMC takes to switch power on or off. */
const BMC_MS = 3 * SECOND;
const RESCUE_MS = 2 * MINUTE;
const COMMISSION_MS = 4 * MINUTE;
const TEST_MS = 5 * MINUTE;

interface MaintenanceOptions {
  readonly region: Region;
  readonly pace: Pace;
  readonly processes: Processes;
  /** An event of level INFO. */
  readonly note: (machine: Machine, type: string) => void;
  readonly halt: (machine: Machine) => void;
}

export class Maintenance {
  readonly #site: MaintenanceOptions;

  constructor(options: MaintenanceOptions) {
    this.#site = options;
  }

  commission(machine: Machine, user: User): void {
    machine.owner = user.username;
    this.#site.region.changeStatus(machine, 'commissioning');
    this.#site.note(machine, 'Commissioning');
    this.#site.processes.begin(machine, 'commission', async (signal) => {
      await this.#ephemeral(machine, COMMISSION_MS, signal);
      machine.commissioned = true;
      machine.owner = null;
      this.#site.region.changeStatus(machine, 'ready');
    });
  }

  test(machine: Machine, user: User): void {
    machine.previousStatus = machine.status;
    machine.owner ??= user.username;
    this.#site.halt(machine);
    this.#site.region.changeStatus(machine, 'testing');
    this.#site.note(machine, 'Testing');
    this.#site.processes.begin(machine, 'test', async (signal) => {
      await this.#ephemeral(machine, TEST_MS, signal);
      this.returnTo(machine, machine.previousStatus);
    });
  }

  async #ephemeral(machine: Machine, workMs: number, signal: AbortSignal): Promise<void> {
    await this.#site.pace.sleep(BMC_MS, signal);
    machine.bmcPower = 'on';
    machine.powerState = 'on';
    await this.#site.pace.sleep(workMs, signal);
    await this.#site.pace.sleep(BMC_MS, signal);
    machine.bmcPower = 'off';
    machine.powerState = 'off';
  }

  /** Machines that go back to an unowned status lose the owner that a test or rescue gave them. */
  returnTo(machine: Machine, status: Status): void {
    this.#site.region.changeStatus(machine, status);
    if (status === 'ready' || status === 'new' || status === 'broken') machine.owner = null;
  }

  enterRescue(machine: Machine, user: User): void {
    if (machine.status !== 'entering_rescue_mode' && machine.status !== 'failed_entering_rescue_mode')
      machine.previousStatus = machine.status;
    machine.owner ??= user.username;
    this.#site.halt(machine);
    this.#site.region.changeStatus(machine, 'entering_rescue_mode');
    this.#site.note(machine, 'Entering rescue mode');
    this.#site.processes.begin(machine, 'rescue', async (signal) => {
      await this.#site.pace.sleep(BMC_MS, signal);
      machine.bmcPower = 'on';
      machine.powerState = 'on';
      await this.#site.pace.sleep(RESCUE_MS, signal);
      this.#site.region.changeStatus(machine, 'rescue_mode');
      this.#site.note(machine, 'Rescue mode');
    });
  }

  exitRescue(machine: Machine): void {
    this.#site.processes.interrupt(machine);
    this.#site.region.changeStatus(machine, 'exiting_rescue_mode');
  }

  finishRescue(machine: Machine): void {
    this.#site.note(machine, 'Exited rescue mode');
    this.returnTo(machine, machine.previousStatus);
  }
}
