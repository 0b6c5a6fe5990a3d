/**
 * The address at which a node's kubelet, API server and etcd serve, as far as MAAS tells: machines may have several.
 * The bootstrap script takes the one that routes to the endpoint; here the same choice is made from outside.
 */
import { isIPv4 } from 'node:net';
import type { Machine } from '../maas/client.ts';
import { addressIn } from './cidr.ts';
import { type EndpointRecord, endpointAddress } from './model.ts';
import { primarySubnet } from './placement.ts';

/** All IPv4 addresses of the machine, the likeliest first: in the endpoint's network, else where its gateway is. */
export function nodeAddresses(machine: Machine, endpoint: EndpointRecord): string[] {
  const taken = endpointAddress(endpoint)?.host; // whoever holds it may show it as its own
  const own = machine.ipAddresses.filter((address) => isIPv4(address) && address !== taken);
  const network = endpoint.kind === 'vip' ? endpoint.subnetCidr : primarySubnet(machine);
  const here = (address: string) => network !== undefined && addressIn(network, address);
  return [...own.filter(here), ...own.filter((address) => !here(address))];
}
