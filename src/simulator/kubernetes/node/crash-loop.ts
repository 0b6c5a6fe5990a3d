/** A container that crashes as soon as it starts, as the kubelet writes it into the pod's status. */
import type { Json, KubeObject } from '../api/json.ts';

/** One crash more; `time` in RFC 3339. */
export function crashed(pod: KubeObject, time: string): Json {
  return {
    ...pod.status,
    containerStatuses: (pod.status?.containerStatuses ?? []).map((status: Json) => {
      const restartCount = (status.restartCount ?? 0) + 1;
      return {
        ...status,
        ready: false,
        started: false,
        restartCount,
        state: {
          waiting: {
            reason: 'CrashLoopBackOff',
            message: `back-off restarting failed container=${status.name} pod=${pod.metadata.name}`,
          },
        },
        lastState: {
          terminated: { exitCode: 1, reason: 'Error', startedAt: time, finishedAt: time },
        },
      };
    }),
    conditions: turned(pod, time, false),
  };
}

/** Its next start went well. */
export function recovered(pod: KubeObject, time: string): Json {
  return {
    ...pod.status,
    containerStatuses: (pod.status?.containerStatuses ?? []).map((status: Json) => ({
      ...status,
      ready: true,
      started: true,
      state: { running: { startedAt: time } },
      lastState: {},
    })),
    conditions: turned(pod, time, true),
  };
}

export function isCrashLooping(pod: KubeObject): boolean {
  return (pod.status?.containerStatuses ?? []).some(
    (status: Json) => status.state?.waiting?.reason === 'CrashLoopBackOff',
  );
}

function turned(pod: KubeObject, time: string, ready: boolean): Json[] {
  return (pod.status?.conditions ?? []).map((condition: Json) => {
    if (condition.type !== 'Ready' && condition.type !== 'ContainersReady') return condition;
    const { reason: _reason, lastTransitionTime, ...rest } = condition;
    const status = ready ? 'True' : 'False';
    return {
      ...rest,
      status,
      lastTransitionTime: condition.status === status ? lastTransitionTime : time,
      ...(ready ? {} : { reason: 'ContainersNotReady' }),
    };
  });
}
