/** Jobs run their pods to the end; CronJobs are kept but not run. */
import { type Json, type KubeObject, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import type { SimCluster } from '../node/cluster.ts';
import { createPod, deletePod, isFinished, isGoing, isReady, podsOf } from './pods.ts';

export function runJobs(cluster: SimCluster): void {
  const { core } = cluster;
  for (const job of core.store.all(R.jobs)) {
    if (isGoing(job)) continue;
    if (
      (job.status?.conditions ?? []).some(
        (item: Json) => ['Complete', 'Failed'].includes(item.type) && item.status === 'True',
      )
    ) {
      expire(cluster, job);
      continue;
    }
    const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const pods = podsOf(core, job);
    const succeeded = pods.filter((pod) => pod.status?.phase === 'Succeeded').length;
    const failed = pods.filter((pod) => pod.status?.phase === 'Failed').length;
    const active = pods.filter((pod) => !isFinished(pod) && !isGoing(pod));
    const completions: number = job.spec.completions ?? 1;
    const status: Json = {
      ...job.status,
      startTime: job.status?.startTime ?? now,
      active: active.length,
      succeeded,
      failed,
      ready: active.filter(isReady).length,
    };
    const done = (type: string, reason: string) => ({
      type,
      status: 'True',
      reason,
      message: '',
      lastProbeTime: now,
      lastTransitionTime: now,
    });
    if (succeeded >= completions) {
      status.conditions = [
        done('SuccessCriteriaMet', 'CompletionsReached'),
        done('Complete', 'CompletionsReached'),
      ];
      status.completionTime = now;
    } else if (failed > job.spec.backoffLimit) {
      status.conditions = [
        done('FailureTarget', 'BackoffLimitExceeded'),
        done('Failed', 'BackoffLimitExceeded'),
      ];
      for (const pod of active) deletePod(core, pod);
    } else if (!job.spec.suspend) {
      const wanted = Math.min(job.spec.parallelism ?? 1, completions - succeeded);
      for (let missing = wanted - active.length; missing > 0; missing -= 1) createPod(core, job, {});
    }
    for (const field of ['active', 'succeeded', 'failed', 'ready'])
      if (status[field] === 0) delete status[field];
    if (!sameJson(status, job.status))
      core.edit(R.jobs, job.metadata, (draft) => {
        draft.status = status;
      });
  }
}

function expire({ core, site }: SimCluster, job: KubeObject): void {
  const ttl: number | undefined = job.spec.ttlSecondsAfterFinished;
  if (ttl === undefined) return;
  const ended = Date.parse(job.status.completionTime ?? job.status.conditions.at(-1).lastTransitionTime);
  if ((site.clock.now() - ended) * site.pace.speed >= ttl * 1000)
    core.objects.delete(core.type(R.jobs), job.metadata.namespace, job.metadata.name, {});
}
