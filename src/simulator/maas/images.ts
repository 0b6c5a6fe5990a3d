/** Which image a deploy request means, and whether it can be deployed on an architecture. */
import type { BootResource, Machine } from './model.ts';
import type { Region } from './region.ts';
import { invalid } from './reply.ts';

export interface ChosenImage {
  readonly osystem: string;
  readonly series: string;
  readonly kernel: string;
}

const SERIES_NUMBERS: Record<string, string> = { '20.04': 'focal', '22.04': 'jammy', '24.04': 'noble' };

const requestName = (image: BootResource): string =>
  image.uploaded && !image.name.includes('/') ? `custom/${image.name}` : image.name;

const archOf = (architecture: string): string => architecture.split('/')[0] ?? '';
const kernelOf = (image: BootResource): string => image.architecture.split('/')[1] ?? '';

/** Throws the 400 of MAAS's deploy form when the series is unknown or has no kernel for this machine. */
export function chooseImage(
  region: Region,
  machine: Machine,
  wanted: string | undefined,
  kernel: string | undefined,
): ChosenImage {
  const complete = region.images.filter((image) => image.complete);
  const series =
    wanted ||
    [region.config.get('default_osystem'), region.config.get('default_distro_series')].map(String).join('/');
  const number = region.flavour.seriesAliases ? SERIES_NUMBERS[series.replace(/^ubuntu\//, '')] : undefined;
  const names = number ? [`ubuntu/${number}`] : [series, `ubuntu/${series}`, `custom/${series}`];
  const named = complete.filter((image) => names.includes(requestName(image)));
  if (named.length === 0) throw invalidSeries(region, wanted ?? series);

  const arch = archOf(machine.architecture);
  const fitting = named.filter((image) => archOf(image.architecture) === arch);
  const [first] = fitting;
  const [osystem = '', name = ''] = requestName(named[0] ?? must()).split('/');
  if (!first) throw invalid({ hwe_kernel: `${name} has no kernels available.` });
  if (first.uploaded) return { osystem, series: name, kernel: baseKernel(region, first) };
  const kernels = fitting.map(kernelOf);
  const chosen = kernel && kernels.includes(kernel) ? kernel : kernels.find((one) => one.startsWith('ga-'));
  return { osystem, series: name, kernel: chosen ?? kernels[0] ?? '' };
}

function must(): never {
  throw new Error('an image vanished while it was looked at');
}

/** Custom images boot with the kernel of the release they are made from. */
function baseKernel(region: Region, image: BootResource): string {
  const base = region.images.find((one) => one.name === image.baseImage && kernelOf(one).startsWith('ga-'));
  return base ? kernelOf(base) : 'ga-22.04';
}

export function invalidSeries(region: Region, wanted: string) {
  const complete = region.images.filter((image) => image.complete);
  const names = [...new Set(complete.map(requestName))].sort();
  const choices = ['', ...names].map((name) => `'${name}'`).join(', ');
  return invalid({
    distro_series: `'${wanted}' is not a valid distro_series.  It should be one of: ${choices}.`,
  });
}
