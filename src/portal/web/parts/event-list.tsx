/** What happened, newest first; long lists show their end and grow on demand. */
import { useSignal } from '@preact/signals';
import { clockTime, duration, fullTime } from '../format.ts';
import type { FeedEvent } from '../state.ts';
import { Icon } from './icons.tsx';

const FIRST_SHOWN = 60;
const ICONS = { info: 'info', warning: 'warn', error: 'bad' } as const;

export function EventList({ events }: { events: FeedEvent[] }) {
  const count = useSignal(FIRST_SHOWN);
  if (events.length === 0) return <p class="sub">Nothing happened yet.</p>;
  const shown = events.slice(-count.value).reverse();
  return (
    <>
      <ol class="events" aria-label="Events, newest first" aria-live="polite">
        {shown.map((event) => (
          <li key={event.id} class={event.severity} data-event-id={event.id}>
            <Icon name={ICONS[event.severity]} />
            <time dateTime={event.time} title={fullTime(event.time)}>
              {clockTime(event.time)}
            </time>
            <span class="what">
              <strong>{event.reason}</strong>{' '}
              {event.node && !event.message.includes(event.node) ? <code>{event.node}</code> : null}{' '}
              {event.message}
              {event.durationMs === undefined ? null : (
                <span class="sub"> took {duration(event.durationMs)}</span>
              )}
              {event.attempt !== undefined && event.attempt > 1 ? (
                <span class="sub"> attempt {event.attempt}</span>
              ) : null}
              {event.error ? (
                <span class="fix">
                  {event.error.message} · {event.error.fix} <code>{event.error.code}</code>
                </span>
              ) : null}
              {event.data && Object.keys(event.data).length > 0 ? (
                <details>
                  <summary>Evidence</summary>
                  <pre>{JSON.stringify(event.data, null, 2)}</pre>
                </details>
              ) : null}
            </span>
          </li>
        ))}
      </ol>
      {events.length > shown.length ? (
        <button
          type="button"
          class="button small"
          onClick={() => {
            count.value += 200;
          }}
        >
          Show {Math.min(200, events.length - shown.length)} older
        </button>
      ) : null}
    </>
  );
}
