/**
 * Any MAAS, looked at through its own API: what there is to stand in for the recorded names and ids, so that
 * recorded requests make sense there.
 */
import { maasCaller, type Caller } from '../support/maas-caller.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { compare, type Difference, type Tolerance } from './compare.ts';
import type { Finding } from './drive.ts';
import { exchangeRaw } from './raw-http.ts';
import { type ApiKey, buildRequest, parseKey } from './request.ts';

export interface LiveOptions {
  /** `http://host:5240/MAAS` */
  readonly url: string;
  /** Of an admin. */
  readonly apiKey: string;
  /** Of a user without admin rights; without it the exchanges of such a user are left out. */
  readonly userKey?: string;
}

interface Standin {
  readonly system_id: string;
  readonly hostname: string;
}

/** Fields that came or went between 3.3 and 3.7. */
const VERSION_FIELDS = [
  'error_description',
  'enable_kernel_crash_dump',
  'is_dpu',
  'last_deployed',
  'platform',
  'supported_platforms',
  'virtualmachine_id',
  'pod',
  'parent',
  'constraints_by_type',
  'space',
  'subarches',
  'base_image',
];

export class LiveSite {
  readonly base: URL;
  readonly call: Caller;
  readonly ready: readonly Standin[];
  readonly hasUser: boolean;
  readonly #keys: Readonly<Record<string, ApiKey>>;
  readonly #words: readonly (readonly [recorded: string, today: string])[];
  readonly #run: string;
  readonly #tolerance: Tolerance = { otherSite: true, fields: VERSION_FIELDS };

  private constructor(
    options: LiveOptions,
    call: Caller,
    ready: readonly Standin[],
    words: readonly (readonly [string, string])[],
  ) {
    this.base = new URL(options.url);
    this.call = call;
    this.ready = ready;
    this.hasUser = options.userKey !== undefined;
    this.#keys = {
      admin: parseKey(options.apiKey),
      operator: parseKey(options.userKey ?? options.apiKey),
    };
    this.#words = words;
    this.#run = Math.random().toString(36).slice(2, 10).padEnd(8, '0');
  }

  /** Throws when the key does not work or nothing is Ready. */
  static async look(options: LiveOptions): Promise<LiveSite> {
    const call = maasCaller(options.url.replace(/\/$/, ''), options.apiKey);
    const get = async (path: string) => {
      const { status, json, text } = await call('GET', path);
      if (status !== 200) throw new Error(`GET ${path}: ${status} ${text.slice(0, 200)}`);
      return json;
    };
    const me = await get('users/?op=whoami');
    const ready = (await get('machines/?status=ready')) as (Standin & {
      zone: { name: string };
      pool: { name: string; id: number };
      interface_set: { mac_address: string }[];
    })[];
    const [first, second = first] = ready;
    if (!first || !second) throw new Error('this MAAS has no Ready machine to look at');
    const [subnet] = await get('subnets/');
    const [image] = await get('boot-resources/');
    const [fabric] = await get('fabrics/');
    const [domain] = await get('domains/');
    const zones = (await get('zones/')) as { name: string }[];
    const other = zones.find((zone) => zone.name !== first.zone.name) ?? zones[0];
    const words: [string, string][] = [
      ['ay7beq', first.system_id],
      ['bn3wxy', second.system_id],
      ['node-01', first.hostname],
      ['node-02', second.hostname],
      ['52:54:00:01:00:01', first.interface_set[0]?.mac_address ?? ''],
      ['52:54:00:01:00:02', second.interface_set[0]?.mac_address ?? ''],
      ['az1', first.zone.name],
      ['az2', other?.name ?? first.zone.name],
      ['pcg-pool', first.pool.name],
      ['mgmt-net', subnet.name],
      ['10.10.0.0/24', subnet.cidr],
      ['10.10.0.0%2F24', encodeURIComponent(subnet.cidr)],
      ['/subnets/1/', `/subnets/${subnet.id}/`],
      ['/resourcepool/1/', `/resourcepool/${first.pool.id}/`],
      ['/boot-resources/4/', `/boot-resources/${image?.id}/`],
      ['/fabrics/0/', `/fabrics/${fabric.id}/`],
      ['fabric-0', fabric.name],
      ['domain=maas', `domain=${domain.name}`],
      ['owner=admin', `owner=${me.username}`],
      ['/users/admin/', `/users/${me.username}/`],
    ];
    return new LiveSite(
      options,
      call,
      ready,
      words.filter(([, today]) => today !== ''),
    );
  }

  /** Sends a recorded exchange, translated; `more` replaces further words. */
  async repeat(exchange: Exchange, more: readonly (readonly [string, string])[] = []): Promise<Finding> {
    const words = [...more, ...this.#words];
    const translate = (text: string) =>
      words.reduce((out, [recorded, today]) => out.replaceAll(recorded, today), text);
    const { body } = exchange.response;
    const expected = {
      ...exchange,
      response: { ...exchange.response, body: body === null ? null : translate(body) },
    };
    const aboutNonces = /nonce|\.\.\. then reused/.test(exchange.name);
    const request = buildRequest(exchange, {
      base: this.base,
      keys: this.#keys,
      paths: new Map(),
      nowS: Math.floor(Date.now() / 1000),
      keepNonces: aboutNonces ? this.#run : undefined,
      translate,
    });
    const today = await exchangeRaw(this.base, request, exchange.request.method === 'HEAD');
    const differences: Difference[] = compare(expected, today, this.#tolerance);
    return { file: exchange.file, name: exchange.name, differences };
  }
}
