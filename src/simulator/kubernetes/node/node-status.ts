/** What a kubelet says about its own node. */
import type { Json } from '../api/json.ts';
import type { KubeletOptions } from './kubelet.ts';

/** The part of a Node's status that its kubelet writes. `now` is RFC 3339 of whole seconds. */
export function nodeStatus(node: {
  readonly machine: KubeletOptions['machine'];
  readonly nodeIp: string;
  readonly version: string;
  readonly maxPods: number;
  readonly bootId: string;
  readonly machineId: string;
  readonly ready: boolean;
  readonly now: string;
}): Json {
  const { machine, nodeIp, version, maxPods, bootId, machineId, ready, now } = node;
  const resources = {
    cpu: String(machine.cpuCount),
    memory: `${machine.memoryMiB * 1024}Ki`,
    pods: String(maxPods),
    'ephemeral-storage': '100Gi',
  };
  const healthy = (type: string, reason: string, message: string) => ({
    type,
    status: 'False',
    reason,
    message,
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  return {
    addresses: [
      { type: 'InternalIP', address: nodeIp },
      { type: 'Hostname', address: machine.hostname },
    ],
    capacity: resources,
    allocatable: resources,
    daemonEndpoints: { kubeletEndpoint: { Port: 10_250 } },
    nodeInfo: {
      architecture: 'amd64',
      bootID: bootId,
      containerRuntimeVersion: 'containerd://2.2.1',
      kernelVersion: '6.8.0-88-generic',
      kubeProxyVersion: '',
      kubeletVersion: version,
      machineID: machineId,
      operatingSystem: 'linux',
      osImage: machine.image.includes('jammy') ? 'Ubuntu 22.04.5 LTS' : 'Ubuntu 24.04.4 LTS',
      systemUUID: `00000000-0000-0000-0000-${machine.systemId.padEnd(12, '0').slice(0, 12)}`,
    },
    conditions: [
      healthy('MemoryPressure', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
      healthy('DiskPressure', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
      healthy('PIDPressure', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
      ready
        ? {
            type: 'Ready',
            status: 'True',
            reason: 'KubeletReady',
            message: 'kubelet is posting ready status',
            lastHeartbeatTime: now,
            lastTransitionTime: now,
          }
        : {
            type: 'Ready',
            status: 'False',
            reason: 'KubeletNotReady',
            message:
              'container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized',
            lastHeartbeatTime: now,
            lastTransitionTime: now,
          },
    ],
  };
}
