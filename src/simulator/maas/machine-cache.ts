/**
 * Rendered machines. A list of 1 000 machines is 30 MB; rendering it afresh for every request would measure
 * the simulator and not the client. A machine's text is kept until something touches it.
 */
import type { Machine } from './model.ts';
import type { Region } from './region.ts';
import { renderMachine } from './render-machine.ts';

export class MachineCache {
  readonly #region: Region;
  readonly #texts = new Map<string, { readonly fingerprint: string; readonly text: string }>();
  #generation = 0;

  constructor(region: Region) {
    this.#region = region;
  }

  /** Something that many machines show has changed: a zone, a subnet, a tag. */
  forgetAll(): void {
    this.#generation += 1;
  }

  /** JSON with four-space indentation, as a single object. */
  text(machine: Machine): string {
    const fingerprint = this.#fingerprint(machine);
    const known = this.#texts.get(machine.systemId);
    if (known?.fingerprint === fingerprint) return known.text;
    const text = JSON.stringify(renderMachine(this.#region, machine), null, 4);
    this.#texts.set(machine.systemId, { fingerprint, text });
    return text;
  }

  /** The same inside a list, where every line is indented once more. */
  list(machines: readonly Machine[]): string {
    if (machines.length === 0) return '[]';
    const items = machines.map((machine) => `    ${this.text(machine).replaceAll('\n', '\n    ')}`);
    return `[\n${items.join(',\n')}\n]`;
  }

  /** Every field that can change, without rendering. */
  #fingerprint(machine: Machine): string {
    const links = machine.nics.map((nic) =>
      nic.links.map((link) => `${link.id}${link.mode}${link.ip}${link.subnetId}`).join(),
    );
    const disks = machine.disks.map((disk) => disk.partitions.length).join();
    const { nics: _nics, disks: _disks, ownerData, tags, userData: _userData, installLog, ...rest } = machine;
    return JSON.stringify([
      this.#generation,
      rest,
      [...ownerData],
      [...tags],
      links,
      disks,
      installLog !== '',
    ]);
  }
}
