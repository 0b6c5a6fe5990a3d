/**
 * Why a deploy failed, found out by looking instead of by reading MAAS's sentence: a 400 without a named
 * field is a rendering conflict or a missing image, a 503 without Retry-After is a full subnet or a machine
 * without power control. Costs requests only after a failure.
 */
import { PcgError } from '../base/errors.ts';
import type { BootImage, Machine, Subnet, SubnetStatistics } from './client.ts';
import { toError } from './errors.ts';
import type { MaasFailure } from './failure.ts';

const ASKED = { what: 'machines.deploy', method: 'POST' } as const;

export interface DeployEvidence {
  explain(
    failure: MaasFailure,
    image: string,
    machine: Machine | undefined,
    signal: AbortSignal,
  ): Promise<PcgError>;
}

export function createDeployEvidence(look: {
  images(signal: AbortSignal): Promise<BootImage[]>;
  subnets(signal: AbortSignal): Promise<Subnet[]>;
  statistics(subnetId: number, signal: AbortSignal): Promise<SubnetStatistics>;
}): DeployEvidence {
  async function imageMissing(
    image: string,
    machine: Machine | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const arch = machine?.architecture.split('/')[0] ?? '';
    const images = await look.images(signal);
    const named = images.filter(({ name }) => name === image || name.endsWith(`/${image}`));
    return !named.some(({ architecture }) => arch === '' || architecture.split('/')[0] === arch);
  }

  async function fullSubnet(machine: Machine | undefined, signal: AbortSignal): Promise<Subnet | undefined> {
    const cidrs = new Set(machine?.interfaces.flatMap((nic) => nic.links.map((link) => link.subnetCidr)));
    for (const subnet of await look.subnets(signal)) {
      if (cidrs.has(subnet.cidr) && (await look.statistics(subnet.id, signal)).numAvailable <= 0)
        return subnet;
    }
    return undefined;
  }

  return {
    async explain(failure, image, machine, signal) {
      const said = toError(failure, ASKED);
      try {
        if (failure.kind === 'refused' && failure.status === 400) {
          if (await imageMissing(image, machine, signal)) {
            return new PcgError('MAAS_IMAGE_MISSING', `MAAS has no image ${image} for this machine`, {
              details: { image, architecture: machine?.architecture, answer: said.message },
            });
          }
          // The wrapper around preseed rendering hides database conflicts.
          return new PcgError('MAAS_CONFLICT', said.message, { details: { image } });
        }
        if (failure.kind === 'unable') {
          const subnet = await fullSubnet(machine, signal);
          if (subnet !== undefined) {
            return new PcgError('MAAS_IP_EXHAUSTED', `no free address is left in subnet ${subnet.cidr}`, {
              details: { subnet: subnet.cidr, answer: said.message },
            });
          }
        }
      } catch (error) {
        if (signal.aborted) throw error;
      }
      return said;
    },
  };
}
