/** Names and small value types that several resources share. */
import { z } from 'zod';

/** RFC 1123 label. */
export const DnsLabelSchema = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    'use lower-case letters, digits and hyphens, starting and ending with a letter or digit',
  )
  .max(63);

/** Opaque identifier made by the portal, e.g. `cl-7f3k2m9qsx`. Safe in file names, MAAS agent names and labels. */
export const IdSchema = z.string().regex(/^[a-z][a-z0-9-]{2,40}$/, 'is not an id');

/** IPv4 address, dotted decimal. */
export const Ipv4Schema = z.ipv4();

/** IPv4 network, e.g. `192.168.0.0/16`. */
export const CidrSchema = z.cidrv4();

/** ISO 8601 time in UTC with milliseconds. */
export const TimeSchema = z.iso.datetime();

/** `v1.36.1` */
export const KubernetesVersionSchema = z.string().regex(/^v1\.\d{1,2}\.\d{1,2}$/, 'give it like v1.36.1');

/** Kubernetes label or annotation maps. */
export const LabelsSchema = z.record(
  z
    .string()
    .regex(
      /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/,
      'is not a label key',
    )
    .max(317),
  z
    .string()
    .regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/, 'is not a label value')
    .max(63),
);

export const TaintSchema = z.object({
  key: z.string().min(1).max(253),
  value: z.string().max(63).default(''),
  effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']),
});

/** Five-field cron expression in the site's local time; `never` switches off. */
export const ScheduleSchema = z.union([
  z.literal('never'),
  z.string().regex(/^(\S+\s+){4}\S+$/, 'give a five-field cron expression, or "never"'),
]);

/** Comment that is shown and never interpreted. */
export const DescriptionSchema = z.string().max(500).default('');
