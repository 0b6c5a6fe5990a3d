/** Booted machines of the simulated site whose Kubernetes is the one in memory: a hundredth of the work of the simulated one. */
import type { BootedMachine, MachineRuntime } from '../../src/simulator/ports.ts';
import type { RuntimeSite } from '../../src/simulator/simulator.ts';
import { FakeKubernetes } from './fake-kubernetes.ts';

/** Hardware time that kubeadm takes. */
const KUBEADM_MS = 25_000;
/** The same between two looks of a joiner at its token. */
const POLL_MS = 20_000;

export interface LightRuntime extends MachineRuntime {
  readonly kubernetes: FakeKubernetes;
}

export function createLightRuntime({ faults, pace, clock }: RuntimeSite): LightRuntime {
  const kubernetes = new FakeKubernetes(KUBEADM_MS / pace.speed, POLL_MS / pace.speed, clock);
  /** Boots of a machine: whatever an earlier one still does ends. */
  const lives = new Map<string, number>();
  const booted = new Map<string, BootedMachine>();
  const begin = (systemId: string) => {
    const life = (lives.get(systemId) ?? 0) + 1;
    lives.set(systemId, life);
    return () => lives.get(systemId) === life;
  };
  const halt = (systemId: string) => {
    begin(systemId);
    kubernetes.halt(systemId);
  };
  return {
    kubernetes,
    boot(machine, console) {
      booted.set(machine.systemId, machine);
      const alive = begin(machine.systemId);
      if (machine.userData.includes('InitConfiguration') && faults.take('init-fails', machine)) {
        console.event(
          'ERROR',
          'NODE_POST_INSTALL_EVENT_FAILED',
          "'cloudinit' running config-scripts-user with frequency once-per-instance: FAIL: kubeadm init",
        );
        return;
      }
      void kubernetes.boot(machine, machine.userData, alive);
    },
    stop(systemId) {
      halt(systemId);
      booted.delete(systemId);
    },
    powerOff: halt,
    resume(systemId) {
      const machine = booted.get(systemId);
      if (machine) kubernetes.resume(machine);
    },
  };
}
