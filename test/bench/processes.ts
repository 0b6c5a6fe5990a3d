/** What the processes of a site use of the machine that they share. */
import { readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import type { Program } from '../../src/cli/programs.ts';
import type { Site } from '../support/site.ts';

/** USER_HZ on every Linux that this runs on. */
const TICK_MS = 10;

/** User and system time of a process so far, milliseconds. */
export function cpuMs(program: Pick<Program, 'pid'> | undefined): number {
  if (program === undefined) throw new Error('the program does not run');
  // After the name, which may hold anything: fields 3 and on; user and system time are 14 and 15.
  const fields = readFileSync(`/proc/${program.pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/**
 * Call what it returns at the end: shares of a core since now, and the machine's load. Above one runnable process
 * for each core all times are also those of the others.
 */
export function loadSince(site: Site): () => string {
  const programs = { simulator: site.simulator, portal: site.portal, agent: site.agent };
  const startedMs = performance.now();
  const before = Object.entries(programs).map(([name, program]) => [name, program, cpuMs(program)] as const);
  return () => {
    const tookMs = performance.now() - startedMs;
    const shares = before.map(
      ([name, program, used]) => `${name} ${((100 * (cpuMs(program) - used)) / tookMs).toFixed(0)} %`,
    );
    return `${shares.join(', ')} of a core, load ${loadavg()[0]?.toFixed(1)}`;
  };
}

/** Highest resident memory of the agent's process so far, MB. */
export function peakRssMb(site: Site): number {
  const status = readFileSync(`/proc/${site.agent?.pid ?? 'none'}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
}
