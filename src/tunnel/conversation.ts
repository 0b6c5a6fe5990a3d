/**
 * A handshake's frame around its turns: one message, one answer, one deadline. Turns run synchronously, because the
 * session must be bound before the carrier delivers the next message; only a look-up may wait, and while it does
 * the peer has nothing to say.
 */
import type { Clock } from '../base/clock.ts';
import type { Carrier } from './carrier.ts';
import { CLOSE } from './codes.ts';
import { encodeFrame, outFrame, readFrames } from './frame.ts';
import { MAX_HANDSHAKE_PAYLOAD_BYTES } from './transcript.ts';

/** From the open carrier to a session. */
export const HANDSHAKE_DEADLINE_MS = 5_000;

/** Handles one message and says who handles the next. */
export type Turn = (type: number, payload: Buffer) => Turn;

/** After the end, and while a look-up runs: nothing is expected. */
export const nobody: Turn = () => nobody;

export interface Conversation<Outcome> {
  send(type: number, payload: Buffer): void;
  /** Looks something up and goes on with what was found, unless the handshake ended meanwhile. */
  wait<Found>(work: () => Promise<Found>, goOn: (found: Found) => Turn): void;
  /** Done: `attach` binds the carrier elsewhere. */
  settle(outcome: Outcome, attach: () => void): void;
  /** Done without a session: the carrier is closed. */
  end(closeCode: number, outcome: Outcome): void;
}

/** Both ends' outcomes have this member. */
interface Refused {
  readonly kind: 'refused';
  readonly closeCode: number;
  readonly reason: string;
}

/** Resolves with the outcome. Rejects with the signal's reason or with what a turn threw, the carrier being closed. */
export function converse<Outcome>(
  carrier: Carrier,
  clock: Clock,
  signal: AbortSignal,
  begin: (io: Conversation<Outcome | Refused>) => Turn,
): Promise<Outcome | Refused> {
  return new Promise((resolve, reject) => {
    let over = false;
    let waiting = false;
    let turn: Turn = nobody;
    const finish = (): boolean => {
      if (over) return false;
      over = true;
      deadline[Symbol.dispose]();
      signal.removeEventListener('abort', onAbort);
      return true;
    };
    const io: Conversation<Outcome | Refused> = {
      send(type, payload) {
        if (over) return;
        const frame = encodeFrame(outFrame(type, 0, payload));
        carrier.send([Buffer.concat([Buffer.alloc(carrier.headroom), frame])]);
      },
      wait(work, goOn) {
        waiting = true;
        Promise.resolve()
          .then(work)
          .then((found) => {
            waiting = false;
            if (!over) turn = goOn(found);
          })
          .catch(() => {
            const reason = 'the look-up failed';
            io.end(CLOSE.INTERNAL, { kind: 'refused', closeCode: CLOSE.INTERNAL, reason });
          });
      },
      settle(outcome, attach) {
        if (!finish()) return;
        attach();
        resolve(outcome);
      },
      end(closeCode, outcome) {
        if (!finish()) return;
        // who has not proven who it is learns the code, and nothing that tells one stranger from another
        carrier.close(closeCode, closeCode === CLOSE.UNAUTHENTICATED ? '' : reasonOf(outcome));
        resolve(outcome);
      },
    };
    const refuse = (closeCode: number, reason: string): void =>
      io.end(closeCode, { kind: 'refused', closeCode, reason });
    const deadline = clock.timer(HANDSHAKE_DEADLINE_MS, () =>
      refuse(CLOSE.HANDSHAKE_TIMEOUT, 'no handshake in time'),
    );
    const onAbort = (): void => {
      if (!finish()) return;
      carrier.close(CLOSE.GOING_AWAY, 'given up');
      reject(signal.reason as Error);
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    /** What throws here (memory that is not there) would end the process. */
    const safely = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        finish();
        carrier.terminate();
        reject(error as Error); // no matter where it has settled
      }
    };
    const onMessage = (message: Buffer): void => {
      let frames = 0;
      const fault = readFrames(
        message,
        MAX_HANDSHAKE_PAYLOAD_BYTES,
        (type, _flags, _id, _sequence, payload) => {
          frames += 1;
          if (waiting || frames > 1) refuse(CLOSE.PROTOCOL, 'spoke out of turn');
          else turn = turn(type, payload);
          return !over;
        },
      );
      if (fault !== undefined) refuse(CLOSE.PROTOCOL, 'unreadable handshake');
    };
    // before `bind`, which delivers what has already arrived
    safely(() => {
      turn = begin(io);
    });
    if (over) return;
    carrier.bind({
      message: (message) => safely(() => onMessage(message)),
      closed(code, reason) {
        if (finish())
          resolve({ kind: 'refused', closeCode: code, reason: reason || 'the connection was closed' });
      },
      drained() {},
    });
  });
}

function reasonOf(outcome: unknown): string {
  return typeof outcome === 'object' && outcome !== null && 'reason' in outcome ? String(outcome.reason) : '';
}
