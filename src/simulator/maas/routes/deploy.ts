/**
 * Deploy and power_on of an allocated machine. The answer is written before addresses and power are dealt
 * with, so what it says of them is old; when it is sent depends on the version.
 */
import { type Call, flag, integer } from '../call.ts';
import type { Form } from '../form.ts';
import { chooseImage, invalidSeries } from '../images.ts';
import type { Machine } from '../model.ts';
import { afterCommit, invalid, raisedText, rawJson, refused, type Reply } from '../reply.ts';
import { statusTitle } from '../status.ts';
import { acquire } from './allocate.ts';

function check(call: Call, machine: Machine, form: Form): void {
  if (machine.status !== 'ready' && machine.status !== 'allocated')
    throw raisedText(409, `Can't deploy a machine that is in the '${statusTitle(machine.status)}' state`);
  if (flag(form, 'install_rackd'))
    throw raisedText(400, "Deploying a machine as a rackd has been disabled and it's not supported anymore.");
  const vmHost = flag(form, 'install_kvm') || flag(form, 'register_vmhost');
  if (vmHost && flag(form, 'ephemeral_deploy'))
    throw raisedText(400, 'A machine can not be a VM host if it is deployed to memory.');
  if (vmHost && !call.user.admin) throw raisedText(403, 'Only administratros can deploy VM hosts');
  flag(form, 'bridge_all');
  flag(form, 'bridge_stp');
  integer(form, 'bridge_fd', 0);
  if (form.get('license_key')) throw invalid({ license_key: 'Invalid license key.' });
}

/** What makes a machine unfit for any image; checked after it was acquired in the same transaction. */
function checkLayout(machine: Machine): void {
  const onNetwork = machine.nics.some((nic) => nic.links.some((link) => link.subnetId !== null));
  if (!onNetwork) throw invalid({ network: 'Node must be configured to use a network' }, 'application/json');
  if (machine.disks.length === 0)
    throw invalid(
      {
        storage:
          'There are currently no storage devices.  Please add a storage device to be able to deploy this node.',
      },
      'application/json',
    );
  const hasRoot = machine.disks.some((disk) => disk.partitions.some((part) => part.mountPoint === '/'));
  if (!hasRoot)
    throw invalid(
      { storage: "Mount the root '/' filesystem to be able to deploy this node." },
      'application/json',
    );
}

export async function deploy(call: Call, machine: Machine): Promise<Reply> {
  const { region, site, user, form } = call;
  check(call, machine, form);
  if (!region.visibleTo(user, machine)) throw refused();
  const wanted = form.get('distro_series');
  if (site.life.strikes('image-missing', machine)) throw invalidSeries(region, wanted ?? '');
  const image = chooseImage(region, machine, wanted, form.get('hwe_kernel'));
  checkLayout(machine);
  const conflict = site.faults.strikes('preseed-conflict', `${call.method} ${call.path} deploy`);
  if (conflict)
    throw raisedText(400, 'Failed to render preseed: could not serialize access due to concurrent update');
  if (machine.status === 'ready') acquire(call, machine, form.get('agent_name') ?? '', form.get('comment'));
  machine.osystem = image.osystem;
  machine.distroSeries = image.series;
  machine.hweKernel = image.kernel;
  machine.ephemeralDeploy = flag(form, 'ephemeral_deploy');
  machine.enableHwSync = flag(form, 'enable_hw_sync');
  machine.enableKernelCrashDump = region.flavour.hasKernelCrashDump && flag(form, 'enable_kernel_crash_dump');
  machine.userData = form.get('user_data') || null;
  machine.errorDescription = '';
  return start(call, machine, form.get('comment'));
}

/** From Allocated to a machine that installs itself. */
export async function start(call: Call, machine: Machine, comment: string | undefined): Promise<Reply> {
  const { region, site, user } = call;
  const { life } = site;
  life.userEvent(machine, 'User starting deployment', user, comment);
  region.changeStatus(machine, 'deploying');
  life.event(machine, 'INFO', 'Deploying');
  const { systemId, hostname, agentName } = machine;
  region.ledger.record({
    at: region.now(),
    action: 'deploy',
    user: user.username,
    agentName,
    systemId,
    hostname,
    annotations: Object.fromEntries(machine.ownerData),
  });
  const reply = rawJson(site.cache.text(machine));
  await site.wait(site.latency.deployMs ?? 0);
  switch (region.flavour.deployPower) {
    case 'blocking':
      return (await startNow(call, machine)) ?? reply;
    case 'accepted':
      return claim(call, machine) ?? (background(call, machine, false), reply);
    case 'workflow-silent':
      return (background(call, machine, true), reply);
    case 'workflow':
      return (background(call, machine, false), reply);
  }
}

/** Takes the addresses. Returns the failure, after which the machine is Allocated again. */
function claim(call: Call, machine: Machine): Reply | undefined {
  const { region, site, user } = call;
  const strike = site.life.strikes('ip-exhausted', machine);
  const subnet = strike
    ? region.subnet(machine.nics[0]?.links[0]?.subnetId ?? -1)
    : region.claimAutoIps(machine);
  if (!strike && !subnet) return undefined;
  site.life.revertDeploy(machine, user);
  return afterCommit(503, `No more IPs available in subnet: ${subnet?.cidr}.`);
}

async function startNow(call: Call, machine: Machine): Promise<Reply | undefined> {
  const { life } = call.site;
  const exhausted = claim(call, machine);
  if (exhausted) return exhausted;
  // Nobody can power on a machine without BMC: MAAS waits, and so does whoever has a finger to press the button.
  if (!life.hasBmc(machine)) return undefined;
  const outcome = await life.power(machine, 'on');
  if (outcome.kind === 'failed') {
    if (machine.status === 'deploying') life.revertDeploy(machine, call.user);
    return outcome.reply;
  }
  if (machine.status === 'deploying') life.install(machine);
  return undefined;
}

/** Versions that answer first: addresses and power follow, failures show on the machine. */
function background(call: Call, machine: Machine, silent: boolean): void {
  const { life } = call.site;
  const { region } = call;
  life.processes.detach(machine, 'power on', async () => {
    if (region.flavour.deployPower !== 'accepted' && claimLater(call, machine)) return;
    if (!life.hasBmc(machine)) return;
    const outcome = await life.power(machine, 'on');
    if (machine.status !== 'deploying') return;
    if (outcome.kind === 'done') return life.install(machine);
    life.failDeploy(machine, `Power on for the node failed: ${outcome.reply.body.toString()}`, silent);
  });
}

function claimLater(call: Call, machine: Machine): boolean {
  const { life } = call.site;
  const subnet = life.strikes('ip-exhausted', machine)
    ? call.region.subnets[0]
    : call.region.claimAutoIps(machine);
  if (subnet) life.failDeploy(machine, `No more IPs available in subnet: ${subnet.cidr}.`);
  return subnet !== undefined;
}
