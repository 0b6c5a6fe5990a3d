/** Icons as strokes, so that they follow the text's colour. Decorative: the words beside them say it. */

const PATHS = {
  cluster: 'M12 3 4 7.5v9L12 21l8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9',
  gateway: 'M4 6h16v5H4zM4 13h16v5H4zM7.500 8.500h.01M7.500 15.500h.01M12 8.500h5M12 15.500h5',
  account: 'M7 18a4 4 0 0 1-.6-7.950A5.500 5.500 0 0 1 17 8.500a4.500 4.500 0 0 1 .5 9z',
  profile: 'm12 4 8 4-8 4-8-4zM4 12l8 4 8-4M4 16l8 4 8-4',
  ok: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M8.500 12l2.500 2.500 4.500-5',
  bad: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M9.500 9.500l5 5M14.500 9.500l-5 5',
  warn: 'M12 4.500 21 19.500H3zM12 10v4M12 16.800h.01',
  run: 'M12 4a8 8 0 1 1-8 8',
  wait: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M12 8v4l2.500 2.500',
  retry:
    'M4.500 12a7.500 7.500 0 0 1 13-5l2 2M19.500 4v5h-5M19.500 12a7.500 7.500 0 0 1-13 5l-2-2M4.500 20v-5h5',
  pending: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0',
  unknown:
    'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M9.800 9.800a2.300 2.300 0 1 1 3.200 2.100c-.700.300-1 .800-1 1.500M12 16h.01',
  skip: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M8 12h8',
  trash: 'M5 7h14M10 7V4.500h4V7M7 7l1 12.500h8L17 7M10.500 10.500v5.500M13.500 10.500v5.500',
  copy: 'M9 9h10v11H9zM5 15V4h10v2',
  plus: 'M12 5v14M5 12h14',
  download: 'M12 4v11M7.500 11 12 15.500 16.500 11M5 19.500h14',
  right: 'm9 6 6 6-6 6',
  sun: 'M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0M12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M18.700 5.300l-1.400 1.400M6.700 17.300l-1.400 1.400',
  moon: 'M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z',
  auto: 'M4 5h16v11H4zM9 20h6M12 16v4',
  leave: 'M14 4.500h5v15h-5M10 8l-4 4 4 4M6 12h9',
  info: 'M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0M12 11v5M12 8h.01',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, spin = false }: { name: IconName; spin?: boolean }) {
  return (
    <svg class={spin ? 'icon spin' : 'icon'} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
