/** What a kubelet writes about a pod and its containers. Times are RFC 3339 of whole seconds. */
import { randomUUID } from 'node:crypto';
import { type Json, type KubeObject, clone } from '../api/json.ts';

export const containersOf = (pod: KubeObject): Json[] => pod.spec?.containers ?? [];

/** Of a pod that was scheduled; `reason` says why it is not Ready. */
export function conditions(time: string, ready: boolean, reason?: string): Json[] {
  const make = (type: string, ok: boolean) => ({
    type,
    status: ok ? 'True' : 'False',
    lastProbeTime: null,
    lastTransitionTime: time,
    ...(ok ? {} : { reason: reason ?? 'ContainersNotReady' }),
  });
  return [
    make('PodReadyToStartContainers', true),
    make('Initialized', true),
    make('Ready', ready),
    make('ContainersReady', ready),
    make('PodScheduled', true),
  ];
}

/** Containers that wait to start. */
export function waiting(pod: KubeObject, reason: string): Json[] {
  return containersOf(pod).map((container) => ({
    name: container.name,
    image: container.image,
    imageID: '',
    ready: false,
    started: false,
    restartCount: 0,
    state: { waiting: { reason } },
    lastState: {},
  }));
}

/** Containers that run. */
export function running(pod: KubeObject, time: string, ready: boolean): Json[] {
  const before: Json[] = clone(pod.status?.containerStatuses ?? []);
  return containersOf(pod).map((container) => ({
    name: container.name,
    image: container.image,
    imageID: `${String(container.image).split(':')[0]}@sha256:${'0'.repeat(64)}`,
    containerID: `containerd://${randomUUID().replaceAll('-', '').repeat(2)}`,
    ready,
    started: true,
    restartCount: before.find((item) => item.name === container.name)?.restartCount ?? 0,
    state: { running: { startedAt: time } },
    lastState: {},
  }));
}

/** Containers that have ended by themselves: exit codes and messages by their index. */
export function ended(
  pod: KubeObject,
  time: string,
  ends: readonly { readonly exitCode: number; readonly message: string }[],
): Json[] {
  return (pod.status?.containerStatuses ?? []).map((status: Json, index: number) => {
    const { exitCode, message } = ends[index] ?? { exitCode: 0, message: '' };
    return {
      ...status,
      ready: false,
      started: false,
      state: {
        terminated: {
          exitCode,
          reason: exitCode === 0 ? 'Completed' : 'Error',
          ...(message === '' ? {} : { message }),
          startedAt: status.state?.running?.startedAt ?? time,
          finishedAt: time,
        },
      },
    };
  });
}
