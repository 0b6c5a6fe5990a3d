/**
 * MAAS machine states: numbers on the wire, snake_case names in filters and in this product. The label
 * that MAAS shows differs in places ("Releasing failed" is failed_releasing), so only numbers decide.
 */
import type { MaasMachineStatus } from './client.ts';

export type KnownStatus = Exclude<MaasMachineStatus, 'unknown'>;

/** Index = number in the JSON, value = name in filters. */
export const STATUS_NAMES = [
  'new',
  'commissioning',
  'failed_commissioning',
  'missing',
  'ready',
  'reserved',
  'deployed',
  'retired',
  'broken',
  'deploying',
  'allocated',
  'failed_deployment',
  'releasing',
  'failed_releasing',
  'disk_erasing',
  'failed_disk_erasing',
  'rescue_mode',
  'entering_rescue_mode',
  'failed_entering_rescue_mode',
  'exiting_rescue_mode',
  'failed_exiting_rescue_mode',
  'testing',
  'failed_testing',
] as const satisfies readonly KnownStatus[];

export function statusFromNumber(value: number): MaasMachineStatus {
  return STATUS_NAMES[value] ?? 'unknown';
}

/** States that MAAS leaves by itself; a machine in one of them is worth watching closely. */
const MOVING: ReadonlySet<MaasMachineStatus> = new Set([
  'commissioning',
  'deploying',
  'releasing',
  'disk_erasing',
  'entering_rescue_mode',
  'exiting_rescue_mode',
  'testing',
]);

export function isMoving(status: MaasMachineStatus): boolean {
  return MOVING.has(status);
}
