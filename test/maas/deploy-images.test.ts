/** What MAAS does not say when it deploys: another kernel than wanted, an image that is not complete. */
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { clientOf, json, never, serveScript, wireMachine } from '../support/maas-wire.ts';

const DEPLOYING = 9;

describe('a kernel that MAAS does not have', () => {
  const deployed = async (got: string, hweKernel: string | undefined) => {
    await using region = await serveScript((_seen, out) =>
      json(out, { ...wireMachine('abc123', DEPLOYING), hwe_kernel: got }),
    );
    await using client = clientOf(region);
    const request = { image: 'ubuntu/noble', userData: '#cloud-config\n' };
    return await client.machines
      .deploy('abc123', { ...request, ...(hweKernel === undefined ? {} : { hweKernel }) }, never())
      .then(
        ({ kind }) => kind,
        (error: unknown) => (error instanceof PcgError ? error.code : String(error)),
      );
  };
  it('is replaced by MAAS without a word, and refused by us', async () => {
    expect(await deployed('ga-24.04', 'hwe-99.04')).toBe('MAAS_IMAGE_MISSING');
  });
  it('is no matter when it is the wanted one, or none was', async () => {
    expect(await deployed('hwe-24.04', 'hwe-24.04')).toBe('accepted');
    expect(await deployed('ga-24.04', undefined)).toBe('accepted');
  });
});

describe('an image that is listed', () => {
  const row = { type: 'Uploaded', architecture: 'amd64/generic', subarches: 'generic', title: '' };
  const sets = (...complete: boolean[]) =>
    Object.fromEntries(complete.map((one, index) => [`2026112${index}`, { complete: one, progress: 0 }]));
  const verdict = async (one: Record<string, unknown>) => {
    await using region = await serveScript((seen, out) =>
      json(
        out,
        seen.path === 'boot-resources/' ? [{ ...row, id: 10, name: 'big' }] : { ...row, id: 10, ...one },
      ),
    );
    await using client = clientOf(region);
    return await client.imageComplete('custom/big', never());
  };
  it('may still be on its way: only the image by itself says so', async () => {
    expect(await verdict({ sets: sets(false) })).toBe(false);
    expect(await verdict({ sets: sets(true, false) })).toBe(true);
  });
  it('is not doubted when MAAS says nothing about it', async () => {
    expect(await verdict({})).toBeUndefined();
  });
});
