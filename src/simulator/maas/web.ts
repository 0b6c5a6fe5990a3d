/** One page for people: machines, who holds them, what happened lately, which faults are on. No scripts. */
import type { Faults } from './faults.ts';
import type { Region } from './region.ts';
import type { Reply } from './reply.ts';
import type { RequestStats } from './server.ts';
import { statusTitle } from './status.ts';

const LATEST = 60;

const escape = (text: unknown): string =>
  String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

const row = (cells: readonly unknown[]): string =>
  `<tr>${cells.map((cell) => `<td>${escape(cell)}</td>`).join('')}</tr>`;

const table = (heads: readonly string[], rows: readonly (readonly unknown[])[]): string =>
  `<table><thead><tr>${heads.map((head) => `<th>${escape(head)}</th>`).join('')}</tr></thead>` +
  `<tbody>${rows.map(row).join('')}</tbody></table>`;

const time = (at: number): string => new Date(at).toISOString().slice(11, 23);

const STYLE =
  'body{font:14px/1.4 system-ui,sans-serif;margin:2rem;max-width:80rem;color-scheme:light dark}' +
  'table{border-collapse:collapse;margin:0 0 2rem}td,th{padding:.15rem .75rem .15rem 0;text-align:left;border-bottom:1px solid #8884}' +
  'h2{font-size:1rem;margin:1.5rem 0 .5rem}code{font-family:ui-monospace,monospace}';

export function overviewPage(region: Region, faults: Faults, stats: RequestStats): Reply {
  const machines = [...region.machines.values()];
  const { ledger } = region;
  const rules = faults.rules();
  const doubles = ledger.doublyAllocated().length;
  const body =
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">` +
    `<title>MAAS simulator</title><style>${STYLE}</style><h1>MAAS ${escape(region.flavour.version)} simulator</h1>` +
    `<p>${machines.length} machines, ${ledger.leaked().length} held through the API, ${doubles} doubly allocated, ` +
    `${stats.requests} requests. <a href="/simulator/ledger">ledger</a> <a href="/simulator/stats">statistics</a> ` +
    `<a href="/simulator/faults">faults</a></p>` +
    `<h2>Faults</h2>${
      rules.length === 0
        ? '<p>none</p>'
        : table(
            ['rule', 'struck', 'left'],
            rules.map((rule) => [rule.text, rule.struck, Number.isFinite(rule.left) ? rule.left : '']),
          )
    }` +
    `<h2>Machines</h2>${table(
      [
        'machine',
        'id',
        'status',
        'owner',
        'agent name',
        'zone',
        'pool',
        'cores',
        'GiB',
        'power',
        'addresses',
        'last event',
      ],
      machines.map((machine) => [
        machine.hostname,
        machine.systemId,
        statusTitle(machine.status),
        machine.owner ?? '',
        machine.agentName,
        region.zone(machine.zoneId).name,
        region.pool(machine.poolId).name,
        machine.cpuCount,
        machine.memoryMiB / 1024,
        machine.powerState,
        region.machineIps(machine).join(' '),
        machine.statusMessage ?? '',
      ]),
    )}` +
    `<h2>Ledger</h2>${table(
      ['time', 'action', 'machine or address', 'user', 'agent name'],
      ledger
        .entries()
        .slice(-LATEST)
        .reverse()
        .map((entry) => [
          time(entry.at),
          entry.action,
          entry.hostname ?? entry.ip ?? '',
          entry.user,
          entry.agentName,
        ]),
    )}</html>\n`;
  return { status: 200, contentType: 'text/html; charset=utf-8', body, origin: 'bare' };
}
