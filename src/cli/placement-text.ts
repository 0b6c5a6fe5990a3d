/** A placement report as lines for people: per pool which rule rejects which machine, and the nearest fix. */
import type { PlacementReport } from '../contract/api.ts';

export function placementLines({ pools }: PlacementReport): string[] {
  return pools.flatMap(({ pool, wanted, matching, rejections, nearestFix }) => [
    `${pool}: wants ${wanted}, ${matching} machines match`,
    ...rejections.map(({ rule, count, example }) => `  ${rule} rejects ${count}, e.g. ${example}`),
    ...(nearestFix === undefined ? [] : [`  nearest fix: ${nearestFix}`]),
  ]);
}
