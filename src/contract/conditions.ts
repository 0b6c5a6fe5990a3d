/**
 * Conditions: what is true of a resource, computed from observations in one place (`cluster/conditions`).
 * Phase and progress derive from them. Unknown means "not observed recently", never "probably fine".
 */
import { z } from 'zod';
import { TimeSchema } from './names.ts';

export const CONDITION_TYPES = [
  'MachinesAllocated', // every wanted machine is ours in MAAS
  'EndpointReady', // the control-plane address is reserved
  'InfrastructureReady', // every wanted machine is Deployed
  'ControlPlaneInitialized', // the first API server answered
  'NetworkReady', // the CNI pack is applied and available
  'ControlPlaneReady', // all control-plane nodes Ready, etcd voting
  'WorkersReady', // all worker nodes Ready
  'AddonsReady', // all packs applied and available
  'CertificatesValid',
  'Available', // the API answers through the endpoint
  'UpToDate', // every node runs the wanted specification
  'Deleting',
] as const;
export const ConditionTypeSchema = z.enum(CONDITION_TYPES);
export type ConditionType = z.infer<typeof ConditionTypeSchema>;

/** Every reason that a condition may carry. CamelCase, declared here and nowhere else. */
export const CONDITION_REASONS = [
  'Pending',
  'InProgress',
  'Succeeded',
  'Failed',
  'Stale',
  'NotRequested',
  'WaitingForMachines',
  'WaitingForQuota',
  'WaitingForEndpoint',
  'WaitingForDeploy',
  'WaitingForBootstrap',
  'WaitingForControlPlane',
  'WaitingForNetwork',
  'WaitingForNodes',
  'WaitingForQueue',
  'WaitingForApproval',
  'RollingOut',
  'ScalingUp',
  'ScalingDown',
  'Remediating',
  'Upgrading',
  'Draining',
  'ReleasingMachines',
  'Aborting',
  'Unreachable',
  'Expiring',
  'QuorumAtRisk',
  'Degraded',
] as const;
export const ConditionReasonSchema = z.enum(CONDITION_REASONS);
export type ConditionReason = z.infer<typeof ConditionReasonSchema>;

export const ConditionSchema = z.object({
  type: ConditionTypeSchema,
  status: z.enum(['True', 'False', 'Unknown']),
  reason: ConditionReasonSchema,
  message: z.string(),
  lastTransitionTime: TimeSchema,
});
export type Condition = z.infer<typeof ConditionSchema>;
