/**
 * X5: what MAAS knows about a failed machine, taken before the machine is released, because release wipes it:
 * its newest events and the end of the installation output. Bounded, safe to show.
 */
import type { MaasClient } from '../maas/client.ts';

/** Newest events kept; a failed installation writes about sixty. */
const EVENTS_KEPT = 100;
/** End of the installation output; curtin's own error is in its last lines. */
const OUTPUT_BYTES = 16 * 1024;

export async function collectEvidence(
  maas: MaasClient,
  systemId: string,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const [events, output] = await Promise.all([
    maas.events({ ids: [systemId], level: 'DEBUG', limit: EVENTS_KEPT }, signal),
    maas.machines.installationOutput(systemId, OUTPUT_BYTES, signal),
  ]);
  return {
    events: events.map(({ id, created, level, type, description }) => ({
      id,
      created,
      level,
      type,
      description,
    })),
    ...(output === undefined ? {} : { installationOutput: output }),
  };
}
