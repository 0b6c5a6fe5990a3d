/**
 * What differs between MAAS releases as far as a client can see it. 3.5 is the one that the recordings
 * were made with; the others follow the source of their branches.
 */

/** How a deploy treats the BMC: inside the request (3.5), or after the answer. */
export type DeployPower =
  /** The request lasts until the BMC has answered; a failure reverts to Allocated. */
  | 'blocking'
  /** The rack accepts, a later failure is reported: Failed deployment with text and event. */
  | 'accepted'
  /** A workflow does it; early 3.6 reports a failure without text or event. */
  | 'workflow-silent'
  | 'workflow';

export interface Flavour {
  readonly version: string;
  readonly deployPower: DeployPower;
  readonly hasErrorDescription: boolean;
  readonly hasKernelCrashDump: boolean;
  readonly hasDpu: boolean;
  /** Series may be given as `22.04`. */
  readonly seriesAliases: boolean;
  /** Release returns machines that never were commissioned to New. */
  readonly releaseToNew: boolean;
  /** Minutes until a deployment is given up. */
  readonly deployTimeoutMin: number;
  readonly releaseScripts: boolean;
  readonly deploymentTarget: boolean;
}

export const DEFAULT_VERSION = '3.5.13';

const DEPLOY_POWER: Record<number, DeployPower> = {
  3: 'accepted',
  4: 'accepted',
  5: 'blocking',
  6: 'workflow-silent',
  7: 'workflow',
};

/** Takes `3.6` as well as `3.6.5` or `3.5.0~rc1`. Throws RangeError outside 3.3 to 3.7. */
export function flavourOf(version: string): Flavour {
  const match = /^3\.(\d+)(\..*)?$/.exec(version);
  const minor = Number(match?.[1] ?? Number.NaN);
  const deployPower = DEPLOY_POWER[minor];
  if (!deployPower) throw new RangeError(`the simulator speaks MAAS 3.3 to 3.7, not ${version}`);
  return {
    version: match?.[2] ? version : `${version}.0`,
    deployPower,
    hasErrorDescription: minor >= 5,
    hasKernelCrashDump: minor >= 6,
    hasDpu: minor >= 7,
    seriesAliases: minor >= 6,
    releaseToNew: minor >= 5,
    deployTimeoutMin: minor >= 6 ? 70 : 30,
    releaseScripts: minor >= 5,
    deploymentTarget: minor >= 5,
  };
}
