/** When an applied object has done what it is for. Pure: reads status fields only. */
import type { KubeObject } from './client.ts';
import { asRecord, asText } from './errors.ts';

export type Readiness =
  | { readonly kind: 'ready' }
  | { readonly kind: 'waiting'; readonly why: string }
  /** Waiting longer cannot help. */
  | { readonly kind: 'failed'; readonly why: string };

const READY: Readiness = { kind: 'ready' };

/** Kinds without a notion of readiness are ready as soon as they exist. */
export function judgeReadiness(object: KubeObject): Readiness {
  const status = asRecord(object['status']);
  const spec = asRecord(object['spec']);
  const observed = number(status['observedGeneration'], 0);
  const seen = observed >= number(object.metadata.generation, 0);
  switch (object.kind) {
    case 'Deployment': {
      const wanted = number(spec['replicas'], 1);
      if (!seen) return waiting('its controller has not seen it yet');
      if (condition(status, 'Progressing')?.['reason'] === 'ProgressDeadlineExceeded')
        return waiting('its rollout exceeded the progress deadline');
      return counts(wanted, number(status['updatedReplicas'], 0), number(status['availableReplicas'], 0));
    }
    case 'DaemonSet': {
      if (!seen) return waiting('its controller has not seen it yet');
      const wanted = number(status['desiredNumberScheduled'], -1);
      if (wanted < 0) return waiting('its pods are not scheduled yet');
      return counts(
        wanted,
        number(status['updatedNumberScheduled'], 0),
        number(status['numberAvailable'], 0),
      );
    }
    case 'StatefulSet': {
      const wanted = number(spec['replicas'], 1);
      if (!seen) return waiting('its controller has not seen it yet');
      // Under OnDelete nobody updates pods by itself.
      const manual = asRecord(spec['updateStrategy'])['type'] === 'OnDelete';
      const updated = manual ? wanted : number(status['updatedReplicas'], 0);
      return counts(wanted, updated, number(status['readyReplicas'], 0));
    }
    case 'Job': {
      if (condition(status, 'Failed')?.['status'] === 'True')
        return { kind: 'failed', why: asText(condition(status, 'Failed')?.['message'], 'the job failed') };
      return condition(status, 'Complete')?.['status'] === 'True'
        ? READY
        : waiting('the job has not completed');
    }
    case 'CustomResourceDefinition':
      return condition(status, 'Established')?.['status'] === 'True'
        ? READY
        : waiting('it is not established');
    case 'APIService':
      return condition(status, 'Available')?.['status'] === 'True' ? READY : waiting('it is not available');
    case 'Namespace':
      return status['phase'] === 'Terminating' ? waiting('it is being deleted') : READY;
    default:
      return READY;
  }
}

/** Status of a condition by type; undefined when it is not reported. */
export function condition(
  status: Record<string, unknown>,
  type: string,
): Record<string, unknown> | undefined {
  const conditions = Array.isArray(status['conditions']) ? status['conditions'] : [];
  return conditions.map(asRecord).find((entry) => entry['type'] === type);
}

function counts(wanted: number, updated: number, available: number): Readiness {
  if (updated < wanted) return waiting(`${updated} of ${wanted} pods are of the new version`);
  return available < wanted ? waiting(`${available} of ${wanted} pods are available`) : READY;
}

function waiting(why: string): Readiness {
  return { kind: 'waiting', why };
}

function number(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise;
}
