/** What a site has now: machines that are ready by zone and pool, free addresses by subnet. */
import type { Inventory } from '../../../contract/api.ts';

export function Stock({ inventory }: { inventory: Inventory }) {
  return (
    <div class="stock">
      {inventory.zones.map((zone) => (
        <span key={zone.name} class="tag">
          zone {zone.name}: {zone.ready} ready
        </span>
      ))}
      {inventory.pools.map((pool) => (
        <span key={pool.name} class="tag">
          pool {pool.name}: {pool.ready} ready
        </span>
      ))}
      {inventory.subnets.map((subnet) => (
        <span key={subnet.id} class="tag">
          {subnet.cidr}: {subnet.available} free
        </span>
      ))}
    </div>
  );
}
