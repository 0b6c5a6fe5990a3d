/**
 * Faults by name: what can go wrong between a client, MAAS and the hardware, each known from the field.
 * Grammar: `name[=value][:probability-or-count][@filter]`, e.g. `lost-reply:0.05`, `deploy-stuck:2@rack-a`,
 * `slow=2000:0.1@machines`. Without a number a fault always strikes. Chance is drawn per rule from the seed.
 */
import { KUBERNETES_FAULTS, type KubernetesFault } from '../kubernetes/faults.ts';
import { type Random, seededRandom } from '../random.ts';

/** Where a fault strikes decides what its filter is compared with. */
const MAAS_FAULTS = {
  // on the way of a request: the filter is part of `METHOD path op`
  'lost-reply': ['request', 'MAAS does the work, the connection closes without an answer'],
  'reset-mid-body': ['request', 'the connection is reset after half of the answer'],
  'http-502': ['request', 'nginx answers: no region worker'],
  'http-503': ['request', 'no rack controller connected, Retry-After 10; nothing was done'],
  'http-504-after-success': ['request', 'MAAS does the work, a proxy answers 504'],
  'http-409-retry-after': ['request', 'transaction conflict in HTML, Retry-After 5; nothing was done'],
  'http-500': ['request', 'the database restarts'],
  'lands-late': [
    'request',
    'the connection closes at once, MAAS does the work later; value: milliseconds, default 2000',
  ],
  slow: ['request', 'the answer takes longer; value: milliseconds, default 2000'],
  hang: ['request', 'no answer ever; nothing was done'],
  refused: ['request', 'the connection closes before anything is read'],
  down: ['request', 'every request gets 502 while this rule stands'],
  'clock-skew': ['request', "MAAS's clock is wrong; value: seconds ahead, default 600"],
  'preseed-conflict': ['request', 'deploy fails with the 400 that really is a database conflict'],
  // on a machine: the filter is part of `hostname system_id zone pool`
  'power-failure': ['machine', 'the BMC does not obey'],
  'rack-disconnected': ['machine', 'power actions fail: no rack controller, Retry-After 10'],
  'slow-bmc': ['machine', 'power actions take longer; value: seconds of hardware time, default 60'],
  'deploy-stuck': ['machine', 'stays Deploying for ever'],
  'deploy-timeout': ['machine', 'makes no progress until MAAS gives up'],
  'deploy-failed': ['machine', 'the installation fails while writing the OS'],
  'cloud-init-failed': ['machine', 'installed, but first boot reports a failure; stays Deployed'],
  'late-events': [
    'machine',
    'what a machine tells while it installs itself is written down in batches, all but its end; value: seconds between them, default 60',
  ],
  'release-stuck': ['machine', 'does not power off; Releasing failed after 5 minutes'],
  'erase-failed': ['machine', 'erasing the disks fails'],
  'erase-stuck': ['machine', 'erasing the disks never ends'],
  'ip-exhausted': ['machine', 'the subnet has no free address'],
  'image-missing': ['machine', 'the image is not there any more'],
  'stale-address': [
    'machine',
    'when it is allocated, its address of commissioning belongs to another machine or is reserved by now',
  ],
  'machine-dies': [
    'machine',
    'a deployed machine loses power; value: seconds of hardware time after boot, default 60',
  ],
  // on an allocation: the filter is part of `user agent_name constraints`
  'wrong-machine': ['allocate', 'MAAS returns a machine that does not fit'],
  'compose-vm': [
    'allocate',
    'a virtual machine is composed when nothing fits, as by older MAAS also for a named machine; value 1: also for a client that asks for none, whatever fits',
  ],
  'double-allocation': ['allocate', 'MAAS returns a machine that somebody else already holds'],
} as const;

type MaasFault = keyof typeof MAAS_FAULTS;

export type FaultName = MaasFault | KubernetesFault;

interface CatalogueEntry {
  readonly name: FaultName;
  readonly where: string;
  readonly what: string;
}

/** On a booted machine the filter is compared as on any machine. */
const CATALOGUE: readonly CatalogueEntry[] = [
  ...Object.entries(MAAS_FAULTS).map(([name, [where, what]]) => ({ name: name as MaasFault, where, what })),
  ...Object.entries(KUBERNETES_FAULTS).map(([name, what]) => ({
    name: name as KubernetesFault,
    where: 'machine',
    what,
  })),
];

export interface FaultRule {
  readonly text: string;
  readonly name: FaultName;
  readonly value: number | undefined;
  readonly when:
    | { readonly kind: 'always' }
    | { readonly kind: 'chance'; readonly p: number }
    | { readonly kind: 'count' };
  /** Strikes left, for `count`. */
  left: number;
  readonly filter: string;
  struck: number;
}

export class FaultSyntaxError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FaultSyntaxError';
  }
}

/** Every fault with where it strikes and what it does, for help texts. */
export const faultCatalogue = (): readonly CatalogueEntry[] => CATALOGUE;

const isFaultName = (text: string): text is FaultName => CATALOGUE.some((entry) => entry.name === text);

/** Throws FaultSyntaxError that names what is wrong and, for a misspelt name, the nearest ones. */
export function parseFault(text: string): FaultRule {
  const match = /^([a-z0-9-]+)(?:=([^:@]*))?(?::([^@]*))?(?:@(.*))?$/.exec(text.trim());
  const name = match?.[1] ?? '';
  if (!match || !isFaultName(name)) {
    const near = CATALOGUE.map((entry) => entry.name).filter(
      (known) => name !== '' && (known.includes(name.slice(0, 4)) || name.includes(known)),
    );
    const hint =
      near.length > 0
        ? `did you mean ${near.join(' or ')}?`
        : `known: ${CATALOGUE.map((entry) => entry.name).join(', ')}`;
    throw new FaultSyntaxError(`unknown fault "${name || text}"; ${hint}`);
  }
  const [, , valueText, amountText, filter] = match;
  const value = valueText === undefined ? undefined : Number(valueText);
  if (value !== undefined && (valueText === '' || !Number.isFinite(value)))
    throw new FaultSyntaxError(`fault ${name}: the value after "=" must be a number, got "${valueText}"`);
  if (filter === '') throw new FaultSyntaxError(`fault ${name}: the filter after "@" is empty`);
  const base = { text: text.trim(), name, value, filter: (filter ?? '').toLowerCase(), struck: 0 };
  if (amountText === undefined) return { ...base, when: { kind: 'always' }, left: Number.POSITIVE_INFINITY };
  const amount = Number(amountText);
  if (
    amountText === '' ||
    !Number.isFinite(amount) ||
    amount < 0 ||
    (amount > 1 && !Number.isInteger(amount))
  )
    throw new FaultSyntaxError(
      `fault ${name}: after ":" comes a probability (0.05) or a count (2), got "${amountText}"`,
    );
  if (Number.isInteger(amount) && !amountText.includes('.'))
    return { ...base, when: { kind: 'count' }, left: amount };
  return { ...base, when: { kind: 'chance', p: amount }, left: Number.POSITIVE_INFINITY };
}

export interface Strike {
  readonly value: number | undefined;
  /** Draws that belong to this strike, e.g. which machine is the wrong one. */
  readonly random: Random;
}

export class Faults {
  readonly #seed: number;
  #rules: { readonly rule: FaultRule; readonly random: Random }[] = [];

  constructor(seed: number, rules: readonly FaultRule[] = []) {
    this.#seed = seed;
    this.replace(rules);
  }

  /** The rules in force; counts go down as they strike. */
  rules(): readonly FaultRule[] {
    return this.#rules.map(({ rule }) => rule);
  }

  replace(rules: readonly FaultRule[]): void {
    this.#rules = [];
    for (const rule of rules) this.add(rule);
  }

  add(rule: FaultRule): void {
    const twins = this.#rules.filter((one) => one.rule.text === rule.text).length;
    this.#rules.push({ rule, random: seededRandom(this.#seed, `fault ${rule.text} ${twins}`) });
  }

  /** Whether a fault of this name strikes `subject` (compared with the filter) now; consumes a count. `applies`: only such rules. */
  strikes(
    name: FaultName,
    subject: string,
    applies: (rule: FaultRule) => boolean = () => true,
  ): Strike | undefined {
    for (const { rule, random } of this.#rules) {
      if (rule.name !== name || rule.left <= 0 || !applies(rule)) continue;
      if (rule.filter !== '' && !subject.toLowerCase().includes(rule.filter)) continue;
      if (rule.when.kind === 'chance' && random.next() >= rule.when.p) continue;
      rule.left -= 1;
      rule.struck += 1;
      return { value: rule.value, random };
    }
    return undefined;
  }
}
