/**
 * The portal's certificate, its key and its CA, from files that somebody else renews (certbot, a mounted secret).
 * Read whole and judged whole: a pair that is half written, broken or of two certificates never takes the place of
 * one that works. Files are compared by their text, since renewers replace them by links, renames and mounts.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { runForever } from '../base/loop.ts';
import type { PortalMetrics } from './metrics.ts';

/** Paths of PEM files. The pair makes the portal speak HTTPS; a CA alone belongs to a load balancer's certificate. */
export interface TlsFiles {
  readonly pair?: { readonly cert: string; readonly key: string };
  readonly ca?: string;
}

/** What the files hold, as PEM text. */
export interface TlsMaterial {
  readonly pair?: { readonly cert: string; readonly key: string };
  readonly ca?: string;
  /** The certificate's validity, milliseconds since the epoch. */
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

/** A renewed certificate is served within this time, without anybody's signal. */
const LOOK_MS = 10_000;

/** Throws PcgError BAD_CONFIG with the option in `field`. */
export async function readTlsFiles({ pair, ca }: TlsFiles): Promise<TlsMaterial> {
  const material = {
    ...(pair && { pair: { cert: await read(pair.cert, 'tls-cert'), key: await read(pair.key, 'tls-key') } }),
    ...(ca !== undefined && { ca: await read(ca, 'tls-ca') }),
  };
  if (material.ca !== undefined) certificate(material.ca, 'tls-ca');
  return material.pair ? { ...material, ...judgePair(material.pair) } : material;
}

export interface TlsWatch extends AsyncDisposable {
  readonly material: TlsMaterial;
  /** Looks at the files now. The outcome is in the log and in the metrics. Never rejects. */
  look(): Promise<void>;
}

export interface TlsWatchOptions {
  readonly files: TlsFiles;
  readonly material: TlsMaterial;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: PortalMetrics;
  /** Called with each pair that differs from the one before and can be used. */
  readonly use: (pair: { readonly cert: string; readonly key: string }) => void;
}

/** Looks at the files every ten seconds until disposed. */
export function watchTlsFiles(options: TlsWatchOptions): TlsWatch {
  return new Watch(options);
}

class Watch implements TlsWatch {
  readonly #options: TlsWatchOptions;
  readonly #stop = new AbortController();
  readonly #watching: Promise<void>;
  #material: TlsMaterial;
  /** Of the last failure that was logged: the same one is not said again every ten seconds. */
  #complaint: string | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: TlsWatchOptions) {
    this.#options = options;
    this.#material = options.material;
    this.#expiry();
    const { clock, log, metrics } = options;
    metrics.certificateStale.set(0);
    if ((this.#material.notAfterMs ?? Number.POSITIVE_INFINITY) <= clock.now())
      log.error(
        { field: 'tls-cert' },
        "the portal's certificate has expired: gateways and browsers will refuse it",
      );
    this.#watching = runForever({
      clock,
      signal: this.#stop.signal,
      attempt: async () => {
        await clock.sleep(LOOK_MS, this.#stop.signal);
        await this.look();
      },
      onError: (error) => log.error({ error: describeError(error) }, 'TLS files: looking failed'),
      delayMs: () => 0,
    });
  }

  get material(): TlsMaterial {
    return this.#material;
  }

  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#lookOnce());
    return this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new PcgError('CANCELLED', 'the portal stops'));
    await Promise.all([this.#watching, this.#looking]);
  }

  async #lookOnce(): Promise<void> {
    const { files, clock, log, metrics, use } = this.#options;
    try {
      const found = await readTlsFiles(files);
      if (!sameText(found, this.#material)) {
        const { notBeforeMs = 0, notAfterMs = Number.POSITIVE_INFINITY } = found;
        if (notAfterMs <= clock.now())
          throw wrong('tls-cert', `the new certificate expired on ${new Date(notAfterMs).toISOString()}`);
        if (notBeforeMs > clock.now())
          throw wrong(
            'tls-cert',
            `the new certificate is not valid before ${new Date(notBeforeMs).toISOString()}`,
          );
        if (found.pair && !samePair(found, this.#material)) use(found.pair);
        this.#material = found;
        this.#expiry();
        log.info(
          { notAfter: found.notAfterMs && new Date(found.notAfterMs).toISOString() },
          'TLS files reloaded',
        );
      }
      this.#complaint = undefined;
      metrics.certificateStale.set(0);
    } catch (error) {
      metrics.certificateStale.set(1);
      const complaint = describeError(error);
      if (complaint === this.#complaint) return;
      this.#complaint = complaint;
      const { field, fix } = error instanceof PcgError ? error : { field: undefined, fix: undefined };
      log.error(
        { field, fix, error: complaint },
        'TLS files cannot be used; the certificate before stays in use',
      );
    }
  }

  #expiry(): void {
    const { notAfterMs } = this.#material;
    if (notAfterMs !== undefined) this.#options.metrics.certificateExpiry.set(notAfterMs / 1000);
  }
}

/** Its validity. A key of another certificate, or half a file, throws. */
function judgePair(pair: { readonly cert: string; readonly key: string }): {
  notBeforeMs: number;
  notAfterMs: number;
} {
  const own = certificate(pair.cert, 'tls-cert');
  try {
    if (!own.checkPrivateKey(createPrivateKey(pair.key)))
      throw wrong('tls-key', '--tls-key is not the key of the certificate in --tls-cert');
    createSecureContext(pair);
  } catch (cause) {
    if (cause instanceof PcgError) throw cause;
    throw wrong('tls-cert', '--tls-cert and --tls-key are not a PEM certificate chain and its key', cause);
  }
  return { notBeforeMs: Date.parse(own.validFrom), notAfterMs: Date.parse(own.validTo) };
}

/** The first certificate of a chain of which every one can be read. */
function certificate(pem: string, field: 'tls-cert' | 'tls-ca'): X509Certificate {
  try {
    const begun = pem.match(/-----BEGIN/g)?.length ?? 0;
    const blocks = pem.match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g) ?? [];
    // a chain cut in the middle of its second certificate would be served without it
    if (blocks.length !== begun) throw new Error('a PEM block has no end');
    const [own] = blocks
      .filter((block) => block.includes('CERTIFICATE'))
      .map((block) => new X509Certificate(block));
    if (!own) throw new Error('there is no PEM certificate in it');
    return own;
  } catch (cause) {
    const what = field === 'tls-cert' ? 'a PEM certificate chain' : 'a PEM certificate';
    throw wrong(field, `--${field} is not ${what}`, cause);
  }
}

async function read(path: string, field: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw wrong(field, `cannot read ${path}`, cause);
  }
}

const wrong = (field: string, message: string, cause?: unknown): PcgError =>
  new PcgError('BAD_CONFIG', message, {
    field,
    cause,
    fix: 'Write the chain (own certificate first) and its key as PEM files that the portal may read; both must be of one renewal.',
  });

const samePair = (one: TlsMaterial, other: TlsMaterial): boolean =>
  one.pair?.cert === other.pair?.cert && one.pair?.key === other.pair?.key;

const sameText = (one: TlsMaterial, other: TlsMaterial): boolean =>
  samePair(one, other) && one.ca === other.ca;
