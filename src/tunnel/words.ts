/**
 * Four words that a person compares at both ends of a pairing, drawn from the three keys that were exchanged.
 * 256 common words, one byte each. The list is part of the protocol: its order must never change.
 */
import { createHash } from 'node:crypto';

const WORDS = `
acid acorn actor album alder alley amber anchor angle ankle apple apron arrow atlas attic autumn
bacon badge bagel baker bamboo banjo barley barn basil basket beach beacon beard beaver beetle bell
berry birch bishop blanket blossom boat bonnet border bottle branch brass bread brick bridge bronze
brush bucket buffalo butter button cabin cactus camel candle canoe canvas carbon cargo carpet castle
cedar cello chalk cherry chess chimney circus clay cliff clock clover coast cobalt coconut coffee
comet copper coral corner cotton cradle crane crayon cricket crystal curtain daisy dancer desert
diamond dolphin donkey dragon drum eagle earth echo elbow ember engine falcon farmer feather fern
ferry fiddle finger flame flute forest fossil fountain galaxy garden garlic garnet ginger giraffe
glacier globe glove goblet goose granite grape guitar hammer harbor harp harvest hazel helmet heron
honey horse island ivory jacket jaguar jasmine jelly jewel jungle kayak kettle kitten ladder lagoon
lake lantern laurel lemon leopard lily linen lion lizard lobster lotus magnet mango maple marble
market meadow melon mercury mirror mitten monkey moss mountain mushroom napkin nectar needle nickel
oasis ocean olive onion opal orange orbit orchid otter oyster paddle palace panda panther paper
parrot peach pearl pebble pelican pencil pepper piano pigeon pillow pilot pine planet plum pocket
poet pony poppy prairie puzzle quartz rabbit radio raven ribbon river robin rocket ruby saddle
salmon sandal sapphire scarf shadow shell silver sparrow spider spoon stove sugar summit sunset
teapot temple thunder tiger timber trumpet tulip tunnel turtle valley velvet violin wagon walnut
willow window winter zebra
`
  .trim()
  .split(/\s+/);

/** Keys are raw, base64. Both ends get the same words, e.g. `maple-otter-lantern-coral`, from the same keys. */
export function comparisonWords(keys: {
  readonly portalKey: string;
  readonly gatewayKey: string;
  readonly sealingKey: string;
}): string {
  const digest = createHash('sha256').update('pcg.words.v1');
  for (const key of [keys.portalKey, keys.gatewayKey, keys.sealingKey])
    digest.update(Buffer.from(key, 'base64'));
  return [...digest.digest().subarray(0, 4)].map((byte) => WORDS[byte]).join('-');
}
