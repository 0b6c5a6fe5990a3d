/** Operating system images. One row per image and architecture and kernel on the wire; boot loaders are left out. */
import type { Clock } from '../base/clock.ts';
import type { BootImage, MaasClient } from './client.ts';
import { createMemo } from './memo.ts';
import type { Caller } from './retry.ts';
import { ImageListWire } from './schema.ts';

export function createImages(caller: Caller, clock: Clock): MaasClient['images'] {
  return createMemo(clock, async (signal) => {
    const rows = await caller.get(
      ImageListWire,
      { what: 'images', lane: 'read', path: 'boot-resources/' },
      signal,
    );
    const images = new Map<string, BootImage>();
    for (const row of rows) {
      if (
        row.name.startsWith('grub-') ||
        row.name.startsWith('pxelinux') ||
        row.name.startsWith('bootloader')
      )
        continue;
      images.set(`${row.name} ${row.architecture}`, row);
    }
    return [...images.values()];
  });
}
