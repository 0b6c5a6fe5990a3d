/** HorizontalPodAutoscalers in their two versions: v1 knows one number for the processor, v2 a list of metrics. */
import type { Json, KubeObject } from './json.ts';

/** The object as `autoscaling/<version>` shows it; unchanged when it is in that version already. */
export function autoscalerAs(object: KubeObject, version: string): KubeObject {
  const apiVersion = `autoscaling/${version}`;
  if (object.apiVersion === apiVersion) return object;
  const { metrics, targetCPUUtilizationPercentage, ...spec } = object.spec ?? {};
  const processor = (metrics ?? []).find((metric: Json) => metric.resource?.name === 'cpu')?.resource.target;
  const own =
    version === 'v1'
      ? { targetCPUUtilizationPercentage: processor?.averageUtilization }
      : { metrics: utilization(targetCPUUtilizationPercentage) };
  return { ...object, apiVersion, spec: { ...spec, ...own } };
}

function utilization(percent: number | undefined): Json {
  if (percent === undefined) return undefined;
  const target = { type: 'Utilization', averageUtilization: percent };
  return [{ type: 'Resource', resource: { name: 'cpu', target } }];
}
