/** Waits until the paired gateway has tried its MAAS: the default cloud account, or why MAAS refuses it. */
import { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import { CloudAccountSchema } from '../contract/cloud-account.ts';
import { GatewaySchema } from '../contract/gateway.ts';
import type { CliContext } from './context.ts';
import type { PortalClient } from './portal-client.ts';

const POLL_MS = 100;
/** Ends a hang only, as the start of a program: the agent's is in it. What MAAS refuses is told at once. */
const TIMEOUT_MS = 120_000;

const GatewaysSchema = z.object({ items: z.array(GatewaySchema) });
const AccountsSchema = z.object({ items: z.array(CloudAccountSchema) });

/** Id of the account. Throws the gateway's own MAAS_* problem, or TEMPORARY when nothing was heard in time. */
export async function waitForAccount(client: PortalClient, context: CliContext): Promise<string> {
  const { clock, signal } = context;
  const deadline = clock.monotonic() + TIMEOUT_MS;
  for (;;) {
    const gateways = GatewaysSchema.parse(
      await client.call('GET', '/api/v1/gateways', undefined, signal),
    ).items;
    const reported = gateways.flatMap(({ status }) => status?.accounts ?? []);
    const problem = reported.find(({ state }) => state === 'failed')?.problem;
    if (problem)
      throw new PcgError(problem.code, problem.message, { fix: problem.fix, details: problem.details });
    const accounts = AccountsSchema.parse(
      await client.call('GET', '/api/v1/cloud-accounts', undefined, signal),
    ).items;
    const ready = accounts.find(({ id }) => reported.some((one) => one.id === id && one.state === 'ready'));
    if (ready) return ready.id;
    if (clock.monotonic() > deadline) {
      throw new PcgError('TEMPORARY', 'the gateway has not reported its MAAS in time', {
        fix: 'Read the agent log in the state directory.',
      });
    }
    await clock.sleep(POLL_MS, signal);
  }
}
