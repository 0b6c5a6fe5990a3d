/** Release, with or without erasing: inside the request MAAS waits for the BMC. */
import type { Call } from '../call.ts';
import type { Form } from '../form.ts';
import type { Machine } from '../model.ts';
import { json, raisedText, rawJson, type Reply } from '../reply.ts';
import { RELEASABLE, statusTitle } from '../status.ts';

/** MAAS takes everything but these as yes. */
const NO = new Set(['', 'false', 'f', 'no', 'n', 'off', '0']);
const asked = (form: Form, name: string): boolean => !NO.has((form.get(name) ?? '').toLowerCase());

export async function releaseMachine(call: Call, machine: Machine, form: Form): Promise<Reply> {
  const { region, site, user } = call;
  const { life } = site;
  const answer = () => rawJson(site.cache.text(machine));
  if (machine.status === 'ready' || machine.status === 'releasing') return answer();
  if (!RELEASABLE.has(machine.status))
    throw raisedText(
      409,
      `Machine cannot be released in its current state ('${statusTitle(machine.status)}').`,
    );
  const { flavour } = region;
  const wipes =
    asked(form, 'erase') ||
    (flavour.releaseScripts && (asked(form, 'quick_erase') || asked(form, 'secure_erase'))) ||
    region.config.get('enable_disk_erasing_on_release') === true;
  const { systemId, hostname, agentName } = machine;
  region.ledger.record({
    at: region.now(),
    action: 'release',
    user: user.username,
    agentName,
    systemId,
    hostname,
  });
  life.userEvent(machine, wipes ? 'User erasing disk' : 'User releasing node', user, form.get('comment'));
  if (wipes) {
    life.startErase(machine, asked(form, 'quick_erase'));
    return answer();
  }
  const before = machine.status;
  life.startRelease(machine);
  if (!life.hasBmc(machine) || machine.powerState === 'off') {
    life.finishRelease(machine);
    return region.machines.has(systemId) ? answer() : json(null);
  }
  const reply = answer();
  const outcome = await life.power(machine, 'off');
  if (outcome.kind === 'failed') {
    if (flavour.deployPower === 'accepted') {
      life.awaitPowerOff(machine);
      return reply;
    }
    // Back where it was, but the operating system's name is gone already.
    if (!region.changeStatus(machine, before)) machine.status = before;
    return outcome.reply;
  }
  life.awaitPowerOff(machine);
  return reply;
}
