/** The phases of an installation as MAAS's event log shows them, with the time they take on real hardware. */
import type { Random } from '../random.ts';

const SECOND = 1000;

type PhaseEvent = readonly [level: 'DEBUG' | 'INFO', type: string, text?: string];

export interface Phase {
  readonly name: 'pxe' | 'ephemeral' | 'storage' | 'extract' | 'curthooks' | 'reboot';
  /** From the previous phase's events to this one's, milliseconds. */
  readonly durationMs: number;
  readonly events: readonly PhaseEvent[];
}

export const DEPLOY_PHASES: readonly Phase[] = [
  {
    name: 'pxe',
    durationMs: 60 * SECOND,
    events: [
      ['DEBUG', 'Node powered on'],
      ['INFO', 'Performing PXE boot'],
      ['DEBUG', 'TFTP Request', 'bootx64.efi'],
    ],
  },
  {
    name: 'ephemeral',
    durationMs: 25 * SECOND,
    events: [
      ['INFO', 'Loading ephemeral'],
      ['DEBUG', 'HTTP Request', 'squashfs'],
    ],
  },
  {
    name: 'storage',
    durationMs: 40 * SECOND,
    events: [
      ['DEBUG', 'Node installation', "'curtin' curtin command install"],
      ['DEBUG', 'Script result', "/tmp/install.log changed status from 'Pending' to 'Running'"],
      ['INFO', 'Configuring storage'],
      ['DEBUG', 'Node installation', "'cmd-install/stage-partitioning' preparing storage"],
    ],
  },
  {
    name: 'extract',
    durationMs: 25 * SECOND,
    events: [
      ['INFO', 'Installing OS'],
      ['DEBUG', 'Node installation', "'cmd-install/stage-extract' writing install sources to disk"],
    ],
  },
  {
    name: 'curthooks',
    durationMs: 60 * SECOND,
    events: [
      ['INFO', 'Configuring OS'],
      ['DEBUG', 'Node installation', "'cmd-install/stage-curthooks' configuring installed system"],
    ],
  },
  {
    name: 'reboot',
    durationMs: 45 * SECOND,
    events: [
      ['DEBUG', 'Installation complete'],
      ['INFO', 'Rebooting'],
    ],
  },
];

/** Firmware and bootloader until cloud-init asks for user-data. */
export const FIRST_BOOT_MS = 60 * SECOND;

/** Real machines of one model differ by about a fifth. */
export const phaseDuration = (phase: Phase, random: Random): number =>
  phase.durationMs * (0.8 + random.next() * 0.4);

const LOG_LINES: Record<Phase['name'], string> = {
  pxe: '',
  ephemeral: '',
  storage: 'start: cmd-install/stage-partitioning: preparing storage\n',
  extract: 'start: cmd-install/stage-extract: writing install sources to disk\n',
  curthooks: 'start: cmd-install/stage-curthooks: configuring installed system\n',
  reboot: 'curtin: Installation finished.\n',
};

export const installLogLine = (name: Phase['name']): string => LOG_LINES[name];
