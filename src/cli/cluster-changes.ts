/** `pcg clusters create|update|scale|upgrade|approve|...`: what is wanted of clusters, told to the portal. */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { type Cluster, ClusterSchema, type ClusterSpec } from '../contract/cluster.ts';
import { findCluster } from './cluster-source.ts';
import { changeSpec, cloudAccountId, explain, profileId, readSpec } from './cluster-spec.ts';
import { type ClusterWatch, eventsEnd, watchCluster } from './cluster-watch.ts';
import type { CliContext } from './context.ts';
import { integerOption } from './options.ts';
import { mustOpenPortal, type PortalFlags, withPortal } from './portal-access.ts';
import type { PortalClient } from './portal-client.ts';
import { canAsk, consent, type ConsentFlags, typedName, withConsent } from './prompt.ts';

const DEFAULT_TIMEOUT_MIN = 60;
/** The gateway answers a change with its plan within seconds, unless it is away. */
const PLAN_POLL_MS = 250;

type Flags = PortalFlags & ConsentFlags & { readonly wait?: boolean; readonly timeout: number };

export function clusterChanges(clusters: Command, context: CliContext): void {
  const { signal } = context;
  /** A command on one cluster: finds it, changes it, prints it, and waits when told to. */
  const change = <F extends Flags, A extends readonly (string | readonly string[])[]>(
    words: string,
    description: string,
    act: (client: PortalClient, cluster: Cluster, flags: F, ...rest: A) => Promise<Cluster>,
    shape: (command: Command) => Command = (command) => command,
    until: 'Running' | 'Deleted' = 'Running',
  ) =>
    shape(withConsent(withWait(withPortal(clusters.command(words).description(description)), until))).action(
      async (wanted: string, ...given: unknown[]) => {
        const flags = given.at(-2) as F;
        const rest = given.slice(0, -2) as unknown as A;
        await using client = mustOpenPortal(context, flags);
        const before = await findCluster(context, client, wanted);
        const end = flags.wait ? await eventsEnd(context, client, before.id) : 0;
        const changed = await act(client, before, flags, ...rest);
        await finish(context, client, changed, flags, until, end);
      },
    );
  const post = async (client: PortalClient, cluster: Cluster, verb: string, body: unknown) =>
    ClusterSchema.parse(await client.call('POST', `/api/v1/clusters/${cluster.id}/${verb}`, body, signal));

  const create = clusters
    .command('create <spec-file>')
    .description('Create a cluster from YAML; cloudAccount and profile may be names.')
    .option('--dry-run', 'only ask the site whether it can be placed; exit code 10 when not')
    .option('--skip-preflight', 'create it even when the site cannot be asked, or has no machines now');
  withWait(withPortal(create), 'Running').action(
    async (path: string, flags: Flags & { dryRun?: boolean; skipPreflight?: boolean }) => {
      await using client = mustOpenPortal(context, flags);
      const given = readSpec(path);
      const spec = {
        ...given,
        cloudAccount: await cloudAccountId(context, client, given['cloudAccount']),
        profile: await profileId(context, client, given['profile']),
      };
      if (flags.dryRun) return await explain(context, client, spec);
      const created = ClusterSchema.parse(
        await client.call(
          'POST',
          `/api/v1/clusters${flags.skipPreflight ? '?preflight=skip' : ''}`,
          { spec },
          signal,
          { 'idempotency-key': randomUUID() },
        ),
      );
      await finish(context, client, created, flags, 'Running', 0);
    },
  );

  change(
    'update <cluster> <spec-file>',
    'Replace the specification by that in a YAML file.',
    async (client, cluster, flags: Flags, path: string) => {
      const given = readSpec(path);
      const spec = {
        ...given,
        cloudAccount: await cloudAccountId(
          context,
          client,
          given['cloudAccount'] ?? cluster.spec.cloudAccount,
        ),
        profile: await profileId(context, client, given['profile'] ?? cluster.spec.profile),
      };
      await consent(context, flags, `Replace the specification of ${cluster.spec.name}?`);
      return await changeSpec(context, client, cluster, spec as unknown as ClusterSpec);
    },
  );

  change(
    'scale <cluster> <pool=size...>',
    'Change the size of pools, e.g. workers=5.',
    async (client, cluster, flags: Flags, sizes: readonly string[]) => {
      const pools = resized(cluster.spec, sizes);
      const fewer = total(cluster.spec.pools) - total(pools);
      if (fewer > 0)
        await consent(context, flags, `Drain and release ${fewer} machine(s) of ${cluster.spec.name}?`);
      return await changeSpec(context, client, cluster, { ...cluster.spec, pools });
    },
  );

  change(
    'upgrade <cluster>',
    'Take the newest revision of its profile, or another profile; shows the plan and asks before nodes are replaced.',
    async (client, cluster, flags: Flags & { profile?: string }) => {
      const profile = await profileId(context, client, flags.profile ?? cluster.spec.profile);
      const changed = await changeSpec(context, client, cluster, { ...cluster.spec, profile });
      const planned = await awaitPlan(context, client, changed, flags);
      if (planned.status?.rollout?.state !== 'preview') {
        context.say('No node has to be replaced.');
        return planned;
      }
      printPlan(context, planned);
      if (!canAsk(context, flags)) {
        context.say(`It waits: pcg clusters approve ${cluster.spec.name}, or reject.`);
        return planned;
      }
      await consent(context, flags, 'Replace these nodes?');
      return await post(client, planned, 'actions', approvalOf(planned));
    },
    (command) => command.option('--profile <name>', 'another profile, by name or id'),
  );

  change(
    'approve <cluster>',
    'Approve the rollout that waits; prints its plan first.',
    async (client, cluster, flags: Flags) => {
      printPlan(context, cluster);
      const approval = approvalOf(cluster);
      await consent(context, flags, 'Replace these nodes?');
      return await post(client, cluster, 'actions', approval);
    },
  );
  change(
    'reject <cluster>',
    'Take the change back that waits for approval; no node is touched.',
    (client, cluster) => post(client, cluster, 'reject-rollout', { plan: approvalOf(cluster).plan }),
  );

  change('retry <cluster>', 'Try again what failed; failed machines are replaced.', (client, cluster) =>
    post(client, cluster, 'actions', { kind: 'retry' }),
  );
  change(
    'replace-node <cluster> <node>',
    'Replace one node: by node name, MAAS system id or host name.',
    async (client, cluster, flags: Flags, machine: string) => {
      await consent(context, flags, `Drain, release and replace ${machine}?`);
      return await post(client, cluster, 'actions', { kind: 'replace-node', machine });
    },
  );
  for (const [verb, on] of [
    ['maintain', true],
    ['resume', false],
  ] as const)
    change(
      `${verb} <cluster> <node>`,
      on ? 'Drain a node and keep it empty.' : 'Let a maintained node take work again.',
      (client, cluster, _flags: Flags, machine: string) =>
        post(client, cluster, 'actions', { kind: 'maintenance', machine, on }),
    );
  change(
    'run <cluster> <policy>',
    'Run now: patching, cis, conformance, vulnerabilities, backup, etcd-snapshot.',
    (client, cluster, _flags: Flags, policy: string) =>
      post(client, cluster, 'actions', { kind: 'run-policy', policy }),
  );
  change(
    'restore <cluster> <backup>',
    'Bring back what a backup holds; what exists stays as it is.',
    (client, cluster, flags: Flags & { namespaces?: string }, backup: string) =>
      post(client, cluster, 'actions', {
        kind: 'restore-backup',
        backup,
        namespaces: flags.namespaces?.split(',') ?? [],
      }),
    (command) => command.option('--namespaces <names>', 'only these, separated by commas'),
  );
  change(
    'delete-backup <cluster> <backup>',
    'Delete a backup, also from its bucket; there is no way back.',
    async (client, cluster, flags: Flags, backup: string) => {
      await consent(context, flags, `Delete ${backup} of ${cluster.spec.name} for good?`);
      return await post(client, cluster, 'actions', { kind: 'delete-backup', backup });
    },
  );
  change('rotate-certificates <cluster>', 'Renew the certificates of the control plane.', (client, cluster) =>
    post(client, cluster, 'actions', { kind: 'rotate-certificates' }),
  );

  change(
    'abort <cluster>',
    'Stop provisioning and release everything.',
    async (client, cluster, flags: Flags) => {
      await consent(context, flags, `Abort ${cluster.spec.name} and release its machines?`);
      return await post(client, cluster, 'abort', {});
    },
    undefined,
    'Deleted',
  );
  for (const [verb, description] of [
    ['delete', 'Delete a provisioned cluster and release its machines.'],
    ['force-delete', 'Forget a cluster that does not finish deleting; opens 15 minutes after delete.'],
  ] as const)
    change(
      `${verb} <cluster>`,
      description,
      async (client, cluster, flags: Flags) =>
        await post(client, cluster, verb, { confirm: await typedName(context, flags, cluster.spec.name) }),
      (command) => command.option('--confirm <name>', 'the name of the cluster, instead of typing it'),
      'Deleted',
    );
}

function withWait(command: Command, until: 'Running' | 'Deleted'): Command {
  return command
    .option('--wait', `wait until it is ${until}`)
    .option(
      '--timeout <minutes>',
      'how long to wait; exit code 8 when it is not done',
      integerOption(1, 10_000),
      DEFAULT_TIMEOUT_MIN,
    );
}

async function finish(
  context: CliContext,
  client: PortalClient,
  cluster: Cluster,
  flags: Flags,
  until: 'Running' | 'Deleted',
  after: number,
): Promise<void> {
  const waits =
    cluster.status?.rollout?.state === 'preview' && cluster.generation === cluster.status.observedGeneration;
  let last = cluster;
  if (flags.wait === true && !waits) {
    const watch: ClusterWatch = {
      client,
      context,
      clusterId: cluster.id,
      timeoutMs: flags.timeout * 60_000,
      generation: cluster.generation,
      after,
    };
    last = (await watchCluster(watch, until)).cluster;
  }
  const phase =
    last.deletedAt !== undefined
      ? 'Deleted'
      : last.intent.kind !== 'present'
        ? 'Deleting'
        : (last.status?.phase ?? 'Pending');
  if (context.json)
    context.event({ result: 'ok', id: last.id, name: last.spec.name, generation: last.generation, phase });
  else context.out(`${last.id}  ${last.spec.name}  ${phase}  generation ${last.generation}`);
  for (const left of last.status?.leftovers ?? [])
    context.say(`left behind: ${left.kind} ${left.name} (${left.id}): ${left.reason}`);
}

/** The gateway's answer to this generation. Throws DEADLINE when it does not come in time. */
async function awaitPlan(
  context: CliContext,
  client: PortalClient,
  cluster: Cluster,
  flags: Flags,
): Promise<Cluster> {
  const deadline = context.clock.monotonic() + flags.timeout * 60_000;
  for (;;) {
    const seen = ClusterSchema.parse(
      await client.call('GET', `/api/v1/clusters/${cluster.id}`, undefined, context.signal),
    );
    if ((seen.status?.observedGeneration ?? 0) >= cluster.generation) return seen;
    if (context.clock.monotonic() > deadline)
      throw new PcgError('DEADLINE', 'the gateway has not answered the change yet', {
        fix: `Look later: pcg clusters show ${cluster.spec.name}. Nothing moves before an approval.`,
      });
    await context.clock.sleep(PLAN_POLL_MS, context.signal);
  }
}

function approvalOf({ spec, status }: Cluster): { kind: 'approve-rollout'; plan: string } {
  if (status?.rollout === undefined)
    throw new PcgError('CONFLICT', `no rollout of ${spec.name} waits for approval`, {
      fix: 'Look at `pcg clusters show`.',
    });
  return { kind: 'approve-rollout', plan: status.rollout.plan };
}

function printPlan(context: CliContext, { status }: Cluster): void {
  const { rollout } = status ?? {};
  if (!rollout) return;
  if (context.json) return context.event({ event: 'plan', ...rollout });
  context.out(`Plan ${rollout.plan} (${rollout.state}):`);
  for (const { action, node, reason } of rollout.steps) context.out(`  ${action} ${node}: ${reason}`);
  if (rollout.error) context.out(`It cannot start: ${rollout.error.message}. ${rollout.error.fix}`);
}

function resized(spec: ClusterSpec, sizes: readonly string[]): ClusterSpec['pools'] {
  const wanted = new Map<string, number>();
  for (const text of sizes) {
    const [, pool, size] = /^([a-z0-9-]+)=(\d{1,4})$/.exec(text) ?? [];
    if (pool === undefined || !spec.pools.some(({ name }) => name === pool))
      throw new PcgError('INVALID_INPUT', `"${text}" is not <pool>=<size>`, {
        field: 'pool=size',
        fix: `Pools of this cluster: ${spec.pools.map(({ name, size: now }) => `${name}=${now}`).join(', ')}.`,
      });
    wanted.set(pool, Number(size));
  }
  // The portal refuses a control plane of 2; its answer names the field.
  return spec.pools.map((pool) => ({ ...pool, size: wanted.get(pool.name) ?? pool.size }) as typeof pool);
}

function total(pools: ClusterSpec['pools']): number {
  return pools.reduce((sum, { size }) => sum + size, 0);
}
