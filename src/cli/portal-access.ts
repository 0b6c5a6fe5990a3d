/** What commands that call a portal share: its address, the user's token, one client. */
import type { Command } from 'commander';
import { readPem } from '../agent/files.ts';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';
import { CLIENT_SETTINGS } from '../config/portal-settings.ts';
import { loadSettings } from '../config/settings.ts';
import type { CliContext } from './context.ts';
import { PortalClient } from './portal-client.ts';

export interface PortalFlags {
  readonly portalUrl?: string;
  readonly caFile?: string;
}

export function withPortal(command: Command): Command {
  return command
    .option('--portal-url <url>', 'the portal (PCG_PORTAL_URL); its token comes from PCG_PORTAL_TOKEN')
    .option('--ca-file <path>', CLIENT_SETTINGS.caFile.doc);
}

/** A client with the user's token, or undefined when no portal is named. */
export function openPortal(context: CliContext, flags: PortalFlags): PortalClient | undefined {
  const { portalUrl, portalToken, caFile } = loadSettings(CLIENT_SETTINGS, {
    flags: { portalUrl: flags.portalUrl, caFile: flags.caFile },
    environment: context.environment,
  }).values;
  if (portalUrl === undefined) return undefined;
  if (portalToken === undefined)
    throw new PcgError('UNAUTHENTICATED', 'no API token was given', {
      field: CLIENT_SETTINGS.portalToken.env,
      fix: "Make one on the portal's page under API tokens, and set PCG_PORTAL_TOKEN or PCG_PORTAL_TOKEN_FILE.",
    });
  return new PortalClient(portalUrl, context.clock, {
    token: new Secret(portalToken),
    caPem: caFile === undefined ? undefined : readPem(caFile, CLIENT_SETTINGS.caFile.env),
  });
}

/** What only a portal can do: intent comes from there. */
export function mustOpenPortal(context: CliContext, flags: PortalFlags): PortalClient {
  const client = openPortal(context, flags);
  if (client) return client;
  throw new PcgError('INVALID_INPUT', 'clusters are changed through the portal, and none is named', {
    field: '--portal-url',
    fix: 'Give --portal-url, or set PCG_PORTAL_URL.',
  });
}
