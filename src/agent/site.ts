/** The site's own settings, as every node of every cluster gets them and as the engine reaches machines. */
import type { EngineSite } from '../cluster/context.ts';
import type { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { SettingValues } from '../config/settings.ts';

export function siteSettings(
  settings: SettingValues<typeof AGENT_SETTINGS>,
  caPem: string | undefined,
): EngineSite {
  return {
    ...(settings.httpProxy === undefined ? {} : { httpProxy: settings.httpProxy }),
    ...(settings.httpsProxy === undefined ? {} : { httpsProxy: settings.httpsProxy }),
    noProxy: [...settings.noProxy],
    ntpServers: [...settings.ntpServers],
    ...(caPem === undefined ? {} : { caCertificates: [caPem] }),
    ...(settings.maasUrl === undefined ? {} : { maasHost: new URL(settings.maasUrl).hostname }),
    ...(settings.machineProxy === undefined ? {} : { machineProxyUrl: settings.machineProxy }),
  };
}
