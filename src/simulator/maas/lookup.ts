/** Finding what a path names, with MAAS's 404 texts and its rules of who may see and change machines. */
import type { Call } from './call.ts';
import type { Machine } from './model.ts';
import { missing, refused } from './reply.ts';

/** `view`: read. `edit`: operate. `lock`: like edit, also on locked machines. `admin`: manage. */
export type Permission = 'view' | 'edit' | 'lock' | 'admin';

function allowed({ region, user }: Call, machine: Machine, permission: Permission): boolean {
  switch (permission) {
    case 'view':
      return region.visibleTo(user, machine);
    case 'lock':
      return region.visibleTo(user, machine);
    case 'edit':
      return region.visibleTo(user, machine) && !machine.locked;
    case 'admin':
      return user.admin && !machine.locked;
  }
}

export function machineOf(call: Call, permission: Permission): Machine {
  const machine = call.region.machines.get(call.params[0] ?? '');
  if (!machine) throw missing('Machine');
  if (!allowed(call, machine, permission)) throw refused();
  return machine;
}

export function mayEdit(call: Call, machine: Machine): boolean {
  return allowed(call, machine, 'edit');
}

/** Everything that a list may show to the caller. */
export const visibleMachines = ({ region, user }: Call): Machine[] =>
  [...region.machines.values()].filter((machine) => region.visibleTo(user, machine));

/** By a predicate, else the 404 of `model`. */
export function found<T>(items: Iterable<T>, model: string, test: (item: T) => boolean): T {
  for (const item of items) if (test(item)) return item;
  throw missing(model);
}

/** Names and numbers are equally good in most paths. */
export const named =
  (text: string | undefined) =>
  (item: { readonly id: number; readonly name: string }): boolean =>
    String(item.id) === text || item.name === text;
