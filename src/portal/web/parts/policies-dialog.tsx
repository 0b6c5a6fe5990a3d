/** What is done to a cluster regularly: patching, scans, backups, and how broken nodes are treated. */
import { useSignal } from '@preact/signals';
import type { Cluster } from '../../../contract/cluster.ts';
import { ChangeDialog, type ChangeProps } from './change-dialog.tsx';
import { words } from './draft.ts';
import { CheckField, SelectField, TextField } from './fields.tsx';
import { ScheduleField } from './schedule-field.tsx';

type Policies = Cluster['spec']['policies'];

export function PoliciesDialog(props: ChangeProps) {
  const { spec } = props.cluster;
  const { target } = spec.policies.backups;
  const policies = useSignal<Policies>(spec.policies);
  const text = useSignal({
    ttlHours: String(spec.policies.backups.ttlHours),
    namespaces: spec.policies.backups.namespaces.join(', '),
    url: target?.url ?? '',
    bucket: target?.bucket ?? '',
    prefix: target?.prefix ?? '',
    region: target?.region ?? 'us-east-1',
    accessKeyId: '',
    secretAccessKey: '',
    windowMinutes: String(spec.policies.patching.windowMinutes ?? ''),
    maxReplacements: String(spec.policies.remediation.maxReplacements),
    unhealthyAfterSeconds: String(spec.policies.remediation.unhealthyAfterSeconds),
  });
  const type = (key: keyof typeof text.value) => (value: string) => {
    text.value = { ...text.value, [key]: value };
  };
  const set = <K extends keyof Policies>(key: K, changes: Partial<Policies[K]>) => {
    policies.value = { ...policies.value, [key]: { ...policies.value[key], ...changes } };
  };
  const { patching, scans, backups, remediation, certificates, drain, erase } = policies.value;
  const at = 'spec.policies';
  return (
    <ChangeDialog
      {...props}
      wide
      title={`Policies of ${spec.name}`}
      verb="Save"
      wanted={() => ({ ...spec, policies: requested(policies.value, text.value) })}
    >
      {(errorOf) => (
        <>
          <h3>OS patching</h3>
          <div class="grid2">
            <ScheduleField
              label="Patch nodes, one at a time"
              value={patching.schedule}
              error={errorOf(`${at}.patching.schedule`)}
              onChange={(schedule) => set('patching', { schedule })}
            />
            <TextField
              label="Maintenance window (minutes)"
              hint="A scheduled run begins no node after it; empty: no end"
              type="number"
              value={text.value.windowMinutes}
              error={errorOf(`${at}.patching.windowMinutes`)}
              onInput={type('windowMinutes')}
            />
          </div>
          <div class="stack">
            <CheckField
              label="Reboot a node when its patches need it"
              checked={patching.rebootIfRequired}
              onChange={(rebootIfRequired) => set('patching', { rebootIfRequired })}
            />
            <CheckField
              label="Patch new nodes before they join"
              checked={patching.onBoot}
              onChange={(onBoot) => set('patching', { onBoot })}
            />
          </div>
          <h3>Scans</h3>
          <div class="grid3">
            {SCANS.map(([scan, label]) => (
              <ScheduleField
                key={scan}
                label={label}
                value={scans[scan]}
                error={errorOf(`${at}.scans.${scan}`)}
                onChange={(schedule) => set('scans', { [scan]: schedule })}
              />
            ))}
          </div>
          <h3>Backups</h3>
          <div class="grid3">
            <ScheduleField
              label="Back up"
              value={backups.schedule}
              error={errorOf(`${at}.backups.schedule`)}
              onChange={(schedule) => set('backups', { schedule })}
            />
            <TextField
              label="Keep for (hours)"
              type="number"
              value={text.value.ttlHours}
              error={errorOf(`${at}.backups.ttlHours`)}
              onInput={type('ttlHours')}
            />
            <TextField
              label="Namespaces"
              hint="Separated by commas; * for all"
              value={text.value.namespaces}
              error={errorOf(`${at}.backups.namespaces`)}
              onInput={type('namespaces')}
            />
          </div>
          <div class="stack">
            <CheckField
              label="Snapshots of etcd too"
              checked={backups.etcdSnapshots}
              onChange={(etcdSnapshots) => set('backups', { etcdSnapshots })}
            />
            <CheckField
              label="Workloads with Velero, which must be in the profile; needs a bucket"
              checked={backups.workloads}
              onChange={(workloads) => set('backups', { workloads })}
            />
          </div>
          <div class="grid2">
            <TextField
              label="Bucket's address"
              hint="S3-compatible, e.g. https://s3.example.com; empty: snapshots stay on the gateway"
              value={text.value.url}
              error={errorOf(`${at}.backups.target.url`)}
              onInput={type('url')}
            />
            {text.value.url === '' ? null : (
              <>
                <TextField
                  label="Bucket"
                  value={text.value.bucket}
                  required
                  error={errorOf(`${at}.backups.target.bucket`)}
                  onInput={type('bucket')}
                />
                <TextField label="Prefix" value={text.value.prefix} onInput={type('prefix')} />
                <TextField
                  label="Region"
                  value={text.value.region}
                  error={errorOf(`${at}.backups.target.region`)}
                  onInput={type('region')}
                />
                <TextField
                  label="Access key"
                  hint={
                    target?.sealedCredentials
                      ? 'Empty: the stored one stays'
                      : 'Sealed to the gateway; the portal keeps no copy'
                  }
                  value={text.value.accessKeyId}
                  error={
                    errorOf(`${at}.backups.target.credentials`) ??
                    errorOf(`${at}.backups.target.credentials.accessKeyId`)
                  }
                  onInput={type('accessKeyId')}
                />
                <TextField
                  label="Secret key"
                  type="password"
                  value={text.value.secretAccessKey}
                  error={errorOf(`${at}.backups.target.credentials.secretAccessKey`)}
                  onInput={type('secretAccessKey')}
                />
              </>
            )}
          </div>
          <h3>Drains</h3>
          <div class="stack">
            {DRAINS.map(([what, label]) => (
              <CheckField
                key={what}
                label={label}
                checked={drain[what] === 'hold'}
                onChange={(hold) => set('drain', { [what]: hold ? 'hold' : 'evict' })}
              />
            ))}
          </div>
          <h3>Certificates</h3>
          <div class="stack">
            <CheckField
              label="Renew the control plane's certificates in place, by a privileged Job on each node"
              checked={certificates.renewInPlace}
              onChange={(renewInPlace) => set('certificates', { renewInPlace })}
            />
          </div>
          <h3>Broken nodes</h3>
          <div class="stack">
            <CheckField
              label="Replace nodes that fail to start or stay unhealthy"
              checked={remediation.enabled}
              onChange={(enabled) => set('remediation', { enabled })}
            />
          </div>
          <div class="grid3">
            <TextField
              label="Unhealthy after (seconds)"
              type="number"
              value={text.value.unhealthyAfterSeconds}
              error={errorOf(`${at}.remediation.unhealthyAfterSeconds`)}
              onInput={type('unhealthyAfterSeconds')}
            />
            <TextField
              label="At most, in a row"
              type="number"
              value={text.value.maxReplacements}
              error={errorOf(`${at}.remediation.maxReplacements`)}
              onInput={type('maxReplacements')}
            />
            <SelectField
              label="Erase disks when machines go"
              value={erase.mode}
              options={[
                ['none', 'No'],
                ['quick', 'Quick'],
                ['secure', 'Secure erase'],
                ['full', 'Overwrite'],
              ]}
              onChange={(mode) => set('erase', { mode: mode as Policies['erase']['mode'] })}
            />
          </div>
        </>
      )}
    </ChangeDialog>
  );
}

const SCANS = [
  ['cis', 'CIS benchmark'],
  ['conformance', 'Conformance'],
  ['vulnerabilities', 'Vulnerabilities'],
] as const;

const DRAINS = [
  ['unmanagedPods', 'Hold a drain for pods without a controller: a person removes them'],
  ['localData', 'Hold a drain for pods with data on the node'],
] as const;

type Typed = Record<
  | 'ttlHours'
  | 'namespaces'
  | 'url'
  | 'bucket'
  | 'prefix'
  | 'region'
  | 'accessKeyId'
  | 'secretAccessKey'
  | 'windowMinutes'
  | 'maxReplacements'
  | 'unhealthyAfterSeconds',
  string
>;

/** As a request may give them: the credentials only when they were typed. */
function requested(policies: Policies, text: Typed): object {
  const { target, ...backups } = policies.backups;
  const { windowMinutes: _before, ...patching } = policies.patching;
  const { url, bucket, prefix, region, accessKeyId, secretAccessKey } = text;
  const samePlace = target?.url === url && target.bucket === bucket;
  const typed = accessKeyId !== '' || secretAccessKey !== '';
  return {
    ...policies,
    patching: {
      ...patching,
      ...(text.windowMinutes === '' ? {} : { windowMinutes: Number(text.windowMinutes) }),
    },
    backups: {
      ...backups,
      ttlHours: Number(text.ttlHours),
      namespaces: words(text.namespaces),
      ...(url === ''
        ? {}
        : {
            target: {
              url,
              bucket,
              prefix,
              region,
              ...(typed
                ? { credentials: { accessKeyId, secretAccessKey } }
                : samePlace && target.sealedCredentials
                  ? { sealedCredentials: target.sealedCredentials }
                  : {}),
            },
          }),
    },
    remediation: {
      ...policies.remediation,
      maxReplacements: Number(text.maxReplacements),
      unhealthyAfterSeconds: Number(text.unhealthyAfterSeconds),
    },
  };
}
