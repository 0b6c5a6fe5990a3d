/** Two network namespaces with a link of a given rate between them, made and removed by the bench and tests (root). */
import { execFileSync } from 'node:child_process';

const ip = (...args: string[]): void =>
  void execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const within = (namespace: string, ...command: string[]): void => ip('netns', 'exec', namespace, ...command);

/** Bytes on the wire for 1448 bytes of payload: Ethernet 14, IPv4 20, TCP with timestamps 32. */
export const PAYLOAD_SHARE = 1448 / 1514;

/** By this process, which may have several at once. */
let made = 0;

export class TwoNamespaces implements Disposable {
  readonly portal: string;
  readonly gateway: string;
  readonly portalAddress = '10.213.7.1';
  readonly gatewayAddress = '10.213.7.2';

  private constructor(prefix: string) {
    this.portal = `${prefix}-p`;
    this.gateway = `${prefix}-g`;
  }

  /** Throws with the program's own words when the kernel or the user cannot. */
  static create(rateMbit?: number): TwoNamespaces {
    made += 1;
    const spaces = new TwoNamespaces(`pcg${process.pid}-${made}`);
    process.once('exit', spaces.#remove);
    try {
      ip('netns', 'add', spaces.portal);
      ip('netns', 'add', spaces.gateway);
      ip(
        '-n',
        spaces.portal,
        'link',
        'add',
        'v0',
        'type',
        'veth',
        'peer',
        'name',
        'v0',
        'netns',
        spaces.gateway,
      );
      for (const [space, address] of [
        [spaces.portal, spaces.portalAddress],
        [spaces.gateway, spaces.gatewayAddress],
      ] as const) {
        ip('-n', space, 'addr', 'add', `${address}/24`, 'dev', 'v0');
        ip('-n', space, 'link', 'set', 'lo', 'up');
        ip('-n', space, 'link', 'set', 'v0', 'up');
      }
      if (rateMbit !== undefined) spaces.rate(rateMbit);
    } catch (error) {
      spaces[Symbol.dispose]();
      throw error;
    }
    return spaces;
  }

  rate(mbit: number): void {
    for (const space of [this.portal, this.gateway])
      within(
        space,
        'tc',
        'qdisc',
        'replace',
        'dev',
        'v0',
        'root',
        'tbf',
        'rate',
        `${mbit}mbit`,
        'burst',
        '16kb',
        'latency',
        '200ms',
      );
  }

  /** Both ways, without a word to either end. */
  link(state: 'up' | 'down'): void {
    ip('-n', this.gateway, 'link', 'set', 'v0', state);
  }

  /** What `end` sends no longer arrives: an unreachable route keeps the socket, a black hole the silence. */
  silence(end: 'portal' | 'gateway', silent: boolean): void {
    const [space, to] =
      end === 'portal' ? [this.portal, this.gatewayAddress] : [this.gateway, this.portalAddress];
    const wrong = ['lladdr', '02:00:00:00:00:01', 'dev', 'v0', 'nud', 'permanent'];
    if (silent) ip('-n', space, 'neigh', 'replace', to, ...wrong);
    else ip('-n', space, 'neigh', 'del', to, 'dev', 'v0');
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => {
    for (const space of [this.portal, this.gateway]) {
      try {
        ip('netns', 'del', space);
      } catch {
        // was never made
      }
    }
  };
}
