/** Any MAAS, looked at through its own API, and recorded requests made to make sense there. */
import type { Caller } from '../support/maas-caller.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { compare, type Tolerance } from './compare.ts';
import type { Finding } from './drive.ts';
import { type LiveDoor, type LiveOptions, openDoor } from './live-door.ts';
import { type Stock, takeStock, type Words } from './live-words.ts';
import { exchangeRaw } from './raw-http.ts';
import { type ApiKey, buildRequest, parseKey } from './request.ts';

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

/** A list of a thousand machines takes 20 s, and a minute beside others like it. */
const READ_TIMEOUT_MS = 300_000;

export class LiveSite {
  readonly door: LiveDoor;
  readonly stock: Stock;
  readonly call: Caller;
  readonly apiKey: string;
  readonly hasUser: boolean;
  readonly #keys: Readonly<Record<string, ApiKey>>;
  readonly #run: string;
  readonly #tolerance: Tolerance = { otherSite: true, fields: VERSION_FIELDS };

  private constructor(options: LiveOptions, door: LiveDoor, stock: Stock) {
    this.door = door;
    this.stock = stock;
    this.call = door.call;
    this.apiKey = options.apiKey;
    this.hasUser = options.userKey !== undefined;
    this.#keys = {
      admin: parseKey(options.apiKey),
      operator: parseKey(options.userKey ?? options.apiKey),
    };
    this.#run = Math.random().toString(36).slice(2, 10).padEnd(8, '0');
  }

  /** Throws with what is wrong with address or keys. */
  static async look(options: LiveOptions): Promise<LiveSite> {
    const door = await openDoor(options);
    return new LiveSite(options, door, await takeStock(door));
  }

  /** The recorded word that this site has nothing for; undefined: the exchange can be repeated here. */
  lacks({ request }: Exchange, more: Words = []): string | undefined {
    const sent = JSON.stringify([request.path, request.query, request.headers, request.body]);
    const words = [...more, ...this.stock.words];
    return words.find(([recorded, today], index) => {
      const replaced = words
        .slice(0, index)
        .some(([earlier, by]) => earlier === recorded && by !== undefined);
      return today === undefined && !replaced && sent.includes(recorded);
    })?.[0];
  }

  /** Sends a recorded exchange, translated; `more` replaces further words. What fails on the way is a finding. */
  async repeat(exchange: Exchange, more: Words = [], timeoutMs = READ_TIMEOUT_MS): Promise<Finding> {
    const { file, name } = exchange;
    const words = [...more, ...this.stock.words];
    const translate = (text: string) =>
      words.reduce((out, [recorded, today]) => out.replaceAll(recorded, today ?? recorded), text);
    const { body } = exchange.response;
    const expected = {
      ...exchange,
      response: { ...exchange.response, body: body === null ? null : translate(body) },
    };
    const aboutNonces = /nonce|\.\.\. then reused/.test(name);
    const request = buildRequest(exchange, {
      base: this.door.base,
      keys: this.#keys,
      paths: new Map(),
      nowS: Math.floor((Date.now() + this.door.skewMs) / 1000),
      keepNonces: aboutNonces ? this.#run : undefined,
      translate,
    });
    const headOnly = exchange.request.method === 'HEAD';
    try {
      const today = await exchangeRaw(this.door.base, request, { headOnly, timeoutMs });
      const differences = compare(expected, today, this.#tolerance).filter(
        // Of the stand-in for the authentication layer as well (observed, section 9).
        ({ aspect }) => !(exchange.response.status === 401 && aspect === 'header content-type'),
      );
      return { file, name, differences };
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      return { file, name, differences: [{ aspect: 'exchange', detail }] };
    }
  }
}
