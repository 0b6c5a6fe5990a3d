/**
 * What must be right before the agent starts, although it is needed only once it is paired: an agent that was started
 * by hand and paired the next day shall not end then. What MAAS itself would refuse is a state of the cloud account.
 */
import { X509Certificate } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import type { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { SettingValues } from '../config/settings.ts';
import { parseTcpRule } from '../tunnel/tcp-target.ts';
import { readPem } from './files.ts';

/** Throws BAD_CONFIG naming the first wrong setting. */
export function checkSettings(settings: SettingValues<typeof AGENT_SETTINGS>): void {
  if (settings.maasUrl !== undefined && settings.maasApiKey === undefined)
    throw new PcgError('BAD_CONFIG', 'maasUrl is set, but there is no API key', {
      field: 'maasApiKey',
      fix: 'Set PCG_MAAS_API_KEY or PCG_MAAS_API_KEY_FILE.',
    });
  for (const field of ['caFile', 'maasCaFile'] as const) {
    const path = settings[field];
    if (path !== undefined) mustHoldCertificate(path, field);
  }
  for (const rule of settings.tcpTargets) {
    try {
      parseTcpRule(rule);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PcgError('BAD_CONFIG', `setting tcpTargets: ${reason}`, {
        field: 'tcpTargets',
        fix: 'Give host:port, *.domain:port or CIDR:port; the port may be * or a range like 8000-8010.',
        cause,
      });
    }
  }
}

function mustHoldCertificate(path: string, field: string): void {
  const pem = readPem(path, field);
  try {
    new X509Certificate(pem);
  } catch (cause) {
    throw new PcgError('BAD_CONFIG', `setting ${field}: ${path} holds no certificate`, {
      field,
      fix: 'Give a file with one or more PEM blocks "BEGIN CERTIFICATE".',
      cause,
    });
  }
}
