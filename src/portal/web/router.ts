/** The address bar as state: path and query are signals, links change them without a reload. */
import { signal } from '@preact/signals';

const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });
export const route = signal(read());

addEventListener('popstate', () => {
  route.value = read();
});

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  const moved = route.value.path !== location.pathname;
  route.value = read();
  if (!moved) return;
  scrollTo(0, 0);
  // A new page is announced by its heading.
  requestAnimationFrame(() => document.querySelector<HTMLElement>('main h1')?.focus());
}

/** Sets or removes query parameters of the present page: filters live in the URL. */
export function setQuery(changes: Record<string, string | undefined>): void {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined || value === '') query.delete(key);
    else query.set(key, value);
  }
  const text = query.toString();
  go(`${location.pathname}${text === '' ? '' : `?${text}`}`, true);
}

/** One listener for all links of the page. */
export function interceptLinks(): void {
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey)
      return;
    const link = (event.target as Element).closest?.('a');
    if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin)
      return;
    if (link.pathname.startsWith('/api/')) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
