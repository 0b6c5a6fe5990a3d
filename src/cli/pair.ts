/**
 * `pcg pair`: proves a one-time code to the portal and pins its key. The gateway's own keys are on disk
 * before the portal is asked, so after a crash the same command with the same code simply succeeds.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { loadOrCreateKeys, loadPairing, savePairing } from '../agent/identity-store.ts';
import { readPem } from '../agent/files.ts';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';
import { AGENT_SETTINGS } from '../config/agent-settings.ts';
import { loadSettings } from '../config/settings.ts';
import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../store/sqlite.ts';
import { normalisePortalUrl, pairWithPortal } from '../tunnel/pair-client.ts';
import type { CliContext } from './context.ts';

interface PairFlags {
  readonly portalUrl: string;
  readonly stateDir?: string;
  readonly again?: boolean;
}

export function pairCommand(program: Command, context: CliContext): void {
  program
    .command('pair')
    .description('Pair this gateway with a portal, with the one-time code that the portal shows.')
    .requiredOption('--portal-url <url>', 'the portal, as shown with the code')
    .option('--state-dir <path>', AGENT_SETTINGS.stateDir.doc)
    .option('--again', 'pair in place: keep keys, clusters and queue, replace the portal', false)
    .addHelpText(
      'after',
      '\nThe code comes from PCG_PAIRING_CODE or PCG_PAIRING_CODE_FILE, or from standard input: never from a flag.',
    )
    .action(async (flags: PairFlags) => {
      const settings = loadSettings(AGENT_SETTINGS, {
        flags: { stateDir: flags.stateDir },
        environment: context.environment,
      }).values;
      using file = SqliteFile.open(join(settings.stateDir, 'agent.db'), RECORDS_SCHEMA);
      const records = new SqliteRecords(file);
      const portalUrl = normalisePortalUrl(flags.portalUrl);
      const existing = await loadPairing(records);
      if (existing && existing.portalUrl !== portalUrl && !flags.again) {
        throw new PcgError(
          'CONFLICT',
          `this gateway is paired with ${existing.portalUrl} as ${existing.gatewayName}`,
          {
            fix: 'Add --again to replace that pairing in place; clusters and queue are kept.',
          },
        );
      }
      const identity = await loadOrCreateKeys(records);
      const code = await readCode(context);
      const paired = await pairWithPortal({
        portalUrl,
        code,
        identity,
        proxy: { httpProxy: settings.httpProxy, httpsProxy: settings.httpsProxy, noProxy: settings.noProxy },
        caPem: settings.caFile === undefined ? undefined : readPem(settings.caFile, 'caFile'),
        clock: context.clock,
        signal: context.signal,
      });
      await savePairing(records, { ...paired, portalUrl });
      if (context.json) context.event({ event: 'paired', ...paired });
      else
        context.out(
          `Paired as ${paired.gatewayName} (${paired.gatewayId}).\nBoth ends show the words: ${paired.words}`,
        );
    });
}

async function readCode(context: CliContext): Promise<Secret> {
  const value = context.environment['PCG_PAIRING_CODE'];
  if (value !== undefined && value !== '') return new Secret(value);
  const path = context.environment['PCG_PAIRING_CODE_FILE'];
  if (path !== undefined && path !== '') return new Secret(readPem(path, 'PCG_PAIRING_CODE_FILE').trim());
  if (process.stdin.isTTY) context.say('Pairing code (from the portal):');
  let text = '';
  for await (const chunk of process.stdin) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  if (text.trim() === '') {
    throw new PcgError('INVALID_INPUT', 'no pairing code was given', {
      field: 'PCG_PAIRING_CODE',
      fix: 'Set PCG_PAIRING_CODE or PCG_PAIRING_CODE_FILE, or type it at the prompt.',
    });
  }
  return new Secret(text.trim());
}
