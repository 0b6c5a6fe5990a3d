/**
 * The machine statuses of MAAS: numbers, display names, filter names and which transitions it allows.
 * Facts of the protocol; the numbers and names are what clients see on the wire.
 */

/** `[number, filter name, display name]`, in the order of the numbers. */
const TABLE = [
  [0, 'new', 'New'],
  [1, 'commissioning', 'Commissioning'],
  [2, 'failed_commissioning', 'Failed commissioning'],
  [3, 'missing', 'Missing'],
  [4, 'ready', 'Ready'],
  [5, 'reserved', 'Reserved'],
  [6, 'deployed', 'Deployed'],
  [7, 'retired', 'Retired'],
  [8, 'broken', 'Broken'],
  [9, 'deploying', 'Deploying'],
  [10, 'allocated', 'Allocated'],
  [11, 'failed_deployment', 'Failed deployment'],
  [12, 'releasing', 'Releasing'],
  [13, 'failed_releasing', 'Releasing failed'],
  [14, 'disk_erasing', 'Disk erasing'],
  [15, 'failed_disk_erasing', 'Failed disk erasing'],
  [16, 'rescue_mode', 'Rescue mode'],
  [17, 'entering_rescue_mode', 'Entering rescue mode'],
  [18, 'failed_entering_rescue_mode', 'Failed to enter rescue mode'],
  [19, 'exiting_rescue_mode', 'Exiting rescue mode'],
  [20, 'failed_exiting_rescue_mode', 'Failed to exit rescue mode'],
  [21, 'testing', 'Testing'],
  [22, 'failed_testing', 'Failed testing'],
] as const;

export type Status = (typeof TABLE)[number][1];

const NUMBERS = new Map<Status, number>(TABLE.map(([number, name]) => [name, number]));
const TITLES = new Map<Status, string>(TABLE.map(([, name, title]) => [name, title]));
const BY_NUMBER = new Map<number, Status>(TABLE.map(([number, name]) => [number, name]));

export const statusNumber = (status: Status): number => NUMBERS.get(status) ?? 0;
export const statusTitle = (status: Status): string => TITLES.get(status) ?? status;
export const isStatus = (text: string): text is Status => NUMBERS.has(text as Status);

/** From number to the numbers it may become. */
const TRANSITIONS: Record<number, string> = {
  0: '1 21 3 4 7 8 17',
  1: '2 4 7 3 0 8 21',
  2: '1 3 7 8 17 21',
  3: '0 4 10 1 8 17 21',
  4: '17 1 10 5 7 3 8 21',
  5: '4 10 7 3 8 14 12 17 21',
  6: '10 3 8 4 14 12 17 21',
  7: '0 4 3 8 17 21',
  8: '1 4 14 12 17 21 6',
  9: '10 3 8 11 6 4 14 12',
  10: '4 7 3 8 9 14 12 17 21',
  11: '10 3 8 4 14 12 17 21',
  12: '0 10 5 6 4 8 3 11 15 13',
  13: '12 14 4 8 21',
  14: '8 14 15 4 12',
  15: '14 12 8 10 4 17 21',
  16: '8 19 21',
  17: '4 8 6 16 18 19',
  18: '8 17 19 21',
  19: '0 8 2 4 5 10 11 6 3 7 13 15 16 18 20 22',
  20: '8 19 21',
  21: '8 0 4 5 10 6 1 11 3 7 13 15 18 20 22',
  22: '1 8 3 17 21 4 6',
};

/** Same status is always allowed: MAAS treats it as no change. */
export function mayBecome(from: Status, to: Status): boolean {
  if (from === to) return true;
  const allowed = TRANSITIONS[statusNumber(from)] ?? '';
  return allowed.split(' ').some((number) => BY_NUMBER.get(Number(number)) === to);
}

/** From which statuses `release` starts; Ready and Releasing answer 200 without doing anything. */
export const RELEASABLE: ReadonlySet<Status> = new Set([
  'allocated',
  'reserved',
  'broken',
  'deploying',
  'deployed',
  'failed_deployment',
  'failed_disk_erasing',
  'failed_releasing',
]);

/** Commissioning is offered in these. */
export const COMMISSIONABLE: ReadonlySet<Status> = new Set([
  'new',
  'failed_commissioning',
  'ready',
  'broken',
]);

/** Hardware tests are offered everywhere but here. */
export const NOT_TESTABLE: ReadonlySet<Status> = new Set([
  'commissioning',
  'deploying',
  'releasing',
  'disk_erasing',
  'entering_rescue_mode',
  'exiting_rescue_mode',
  'testing',
]);
