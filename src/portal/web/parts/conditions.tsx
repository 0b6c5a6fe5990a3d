/** What is true of a cluster, with reason and since when. Unknown while the gateway is away. */
import type { Cluster } from '../../../contract/cluster.ts';
import { When } from './basics.tsx';
import type { IconName } from './icons.tsx';
import { Badge, type Tone } from './state.tsx';

export function Conditions({ cluster }: { cluster: Cluster }) {
  const { status } = cluster;
  return (
    <section class="card" aria-labelledby="conditions">
      <h2 id="conditions">Conditions</h2>
      {status && status.conditions.length > 0 ? (
        <ul class="plain conditions">
          {status.conditions.map((condition) => {
            const look = CONDITIONS[cluster.stale ? 'Unknown' : condition.status];
            return (
              <li key={condition.type}>
                <Badge {...look} text={condition.type} />
                <span class="sub">
                  {condition.reason}
                  {condition.message ? `: ${condition.message}` : ''} ·{' '}
                  <When at={condition.lastTransitionTime} />
                </span>
              </li>
            );
          })}
        </ul>
      ) : (
        <p class="sub">None reported yet.</p>
      )}
    </section>
  );
}

const CONDITIONS: Record<'True' | 'False' | 'Unknown', { tone: Tone; icon: IconName }> = {
  True: { tone: 'good', icon: 'ok' },
  False: { tone: 'calm', icon: 'wait' },
  Unknown: { tone: 'warn', icon: 'unknown' },
};
