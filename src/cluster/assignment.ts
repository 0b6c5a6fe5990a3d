/**
 * Can all pools be served at once? Machines that fit the same pools are one group; a maximum flow from pools
 * to groups answers exactly, where serving pools one after the other could starve the last one needlessly.
 */

export interface Demand {
  readonly pool: string;
  readonly wanted: number;
  /** System ids that fit this pool. */
  readonly fits: readonly string[];
}

/** pool -> how many machines it gets in a best assignment of everything. */
export function assign(demands: readonly Demand[]): Map<string, number> {
  const poolsOf = new Map<string, number[]>();
  demands.forEach((demand, index) => {
    for (const id of demand.fits) {
      const pools = poolsOf.get(id);
      if (pools) pools.push(index);
      else poolsOf.set(id, [index]);
    }
  });
  const groups = new Map<string, { pools: number[]; free: number }>();
  for (const pools of poolsOf.values()) {
    const key = pools.join(',');
    const group = groups.get(key);
    if (group) group.free += 1;
    else groups.set(key, { pools, free: 1 });
  }
  const supply = [...groups.values()];
  /** flow[pool][group]: machines of the group given to the pool. */
  const flow = demands.map(() => supply.map(() => 0));
  const served = demands.map(() => 0);
  demands.forEach((demand, pool) => {
    while ((served[pool] ?? 0) < demand.wanted && augment(pool)) served[pool] = (served[pool] ?? 0) + 1;
  });
  return new Map(demands.map((demand, pool) => [demand.pool, served[pool] ?? 0]));

  /** One more machine for `start`, moving other pools to other groups where needed (breadth first). */
  function augment(start: number): boolean {
    const cameBy = new Map<number, { group: number; from: number }>();
    const queue = [start];
    const seenGroups = new Set<number>();
    for (let pool = queue.shift(); pool !== undefined; pool = queue.shift()) {
      for (let group = 0; group < supply.length; group += 1) {
        const entry = supply[group];
        if (!entry || seenGroups.has(group) || !entry.pools.includes(pool)) continue;
        seenGroups.add(group);
        if (entry.free > 0) {
          entry.free -= 1;
          settle(pool, group);
          return true;
        }
        for (const other of entry.pools) {
          if ((flow[other]?.[group] ?? 0) > 0 && other !== start && !cameBy.has(other)) {
            cameBy.set(other, { group, from: pool });
            queue.push(other);
          }
        }
      }
    }
    return false;

    function settle(pool: number, group: number): void {
      let at = pool;
      let gained = group;
      for (;;) {
        const row = flow[at];
        if (row) row[gained] = (row[gained] ?? 0) + 1;
        const step = cameBy.get(at);
        if (step === undefined) return; // reached `start`
        if (row) row[step.group] = (row[step.group] ?? 0) - 1;
        gained = step.group;
        at = step.from;
      }
    }
  }
}
