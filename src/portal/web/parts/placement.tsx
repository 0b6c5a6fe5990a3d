/** X4: does it fit, which rule rejects which machine, and the nearest fix. */
import type { PlacementReport } from '../../../contract/api.ts';
import { plural } from '../format.ts';
import { Notice } from './basics.tsx';
import { Icon } from './icons.tsx';

export function Verdict({ pool }: { pool: PlacementReport['pools'][number] }) {
  const free = pool.matching - pool.contested;
  const fits = free >= pool.wanted;
  return (
    <div class={`verdict ${fits ? 'good' : 'bad'}`} role="status">
      <p>
        <Icon name={fits ? 'ok' : 'bad'} />
        <strong>
          {plural(pool.matching, 'machine')} fit, {pool.wanted} wanted
        </strong>
        {pool.contested > 0 ? ` · ${pool.contested} of them go to other pools first` : ''}
      </p>
      {pool.nearestFix && !fits ? <p class="fix">{pool.nearestFix}</p> : null}
      {pool.rejections.length > 0 ? (
        <details>
          <summary>Why others do not fit</summary>
          <ul>
            {pool.rejections.map((rejection) => (
              <li key={rejection.rule}>
                <strong>{rejection.rule}</strong>: {plural(rejection.count, 'machine')}{' '}
                <span class="sub">{rejection.example}</span>
              </li>
            ))}
          </ul>
        </details>
      ) : null}
    </div>
  );
}

export function Placement({ report }: { report: PlacementReport | undefined }) {
  if (!report)
    return (
      <p class="sub" role="status">
        <Icon name="run" spin /> Asking the site whether this can be placed
      </p>
    );
  if (report.feasible)
    return (
      <Notice tone="good" icon="ok">
        <strong>This can be placed now.</strong>
      </Notice>
    );
  return (
    <Notice tone="warn" icon="warn">
      <strong>This cannot be placed now.</strong>
      <ul>
        {report.problems.map((problem) => (
          <li key={`${problem.code}${problem.field ?? ''}`}>
            {problem.message} {problem.fix} <code>{problem.code}</code>
          </li>
        ))}
      </ul>
    </Notice>
  );
}
