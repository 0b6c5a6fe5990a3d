/**
 * Rendered machines. A list of 1 000 machines is 30 MB; rendering it afresh for every request would measure
 * the simulator and not the client. A machine's text is kept for as long as its fingerprint stays the same.
 */
import type { Machine } from './model.ts';
import type { Region } from './region.ts';
import { renderMachine } from './render-machine.ts';

interface Rendered {
  readonly fingerprint: string;
  readonly text: string;
  /** The same one level deeper; made when a list first needs it. */
  indented: string | undefined;
}

export class MachineCache {
  readonly #region: Region;
  readonly #rendered = new Map<string, Rendered>();
  #generation = 0;

  constructor(region: Region) {
    this.#region = region;
  }

  /** Something that many machines show has changed: a zone, a subnet. */
  forgetAll(): void {
    this.#generation += 1;
  }

  /** JSON with four-space indentation, as a single object. */
  text(machine: Machine): string {
    return this.#render(machine).text;
  }

  /** The same inside a list, where every line is indented once more. */
  list(machines: readonly Machine[]): string {
    if (machines.length === 0) return '[]';
    const items = machines.map((machine) => {
      const rendered = this.#render(machine);
      rendered.indented ??= `    ${rendered.text.replaceAll('\n', '\n    ')}`;
      return rendered.indented;
    });
    return `[\n${items.join(',\n')}\n]`;
  }

  #render(machine: Machine): Rendered {
    const fingerprint = this.#fingerprint(machine);
    const known = this.#rendered.get(machine.systemId);
    if (known?.fingerprint === fingerprint) return known;
    const text = JSON.stringify(renderMachine(this.#region, machine), null, 4);
    const rendered = { fingerprint, text, indented: undefined };
    this.#rendered.set(machine.systemId, rendered);
    return rendered;
  }

  /** Every field that can change, without rendering. The domain inside a machine counts its names. */
  #fingerprint(machine: Machine): string {
    const names = this.#region.dnsResources.length + this.#region.dnsRecords.length;
    const links = machine.nics.map(({ discovered, links: own }) => [
      discovered?.ip,
      ...own.map((link) => `${link.id}${link.mode}${link.ip}${link.subnetId}`),
    ]);
    const disks = machine.disks.map((disk) => disk.partitions.length).join();
    const {
      nics: _nics,
      disks: _disks,
      ownerData,
      tags,
      userData: _userData,
      installLog,
      ...fields
    } = machine;
    return JSON.stringify([
      this.#generation,
      names,
      fields,
      [...ownerData],
      [...tags],
      links,
      disks,
      installLog !== '',
    ]);
  }
}
