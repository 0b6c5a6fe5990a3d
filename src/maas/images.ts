/** Operating system images. One row per image and architecture and kernel on the wire; boot loaders are left out. */
import type { Clock } from '../base/clock.ts';
import type { BootImage, MaasClient } from './client.ts';
import { createMemo } from './memo.ts';
import type { Caller } from './retry.ts';
import { ImageListWire, ImageSetsWire } from './schema.ts';

/** Rows of one image that are looked at: an architecture with two kernels has two. */
const ROWS_READ = 4;

export function createImages(caller: Caller, clock: Clock): Pick<MaasClient, 'images' | 'imageComplete'> {
  const rows = createMemo(clock, async (signal) => {
    const call = { what: 'images', lane: 'read', path: 'boot-resources/' } as const;
    const all = await caller.get(ImageListWire, call, signal);
    return all.filter(({ name }) => !/^(?:grub-|pxelinux|bootloader)/.test(name));
  });
  return {
    async images(signal) {
      const images = new Map<string, BootImage>();
      for (const { id: _id, ...image } of await rows(signal))
        images.set(`${image.name} ${image.architecture}`, image);
      return [...images.values()];
    },
    async imageComplete(name, signal) {
      let verdict: boolean | undefined;
      for (const { id } of (await rows(signal)).filter((row) => row.name === name).slice(0, ROWS_READ)) {
        if (id === undefined) continue;
        const call = { what: 'images.read', lane: 'read', path: `boot-resources/${id}/` } as const;
        const sets = Object.values((await caller.get(ImageSetsWire, call, signal)).sets);
        if (sets.some(({ complete }) => complete)) return true;
        if (sets.length > 0) verdict = false;
      }
      return verdict;
    },
  };
}
