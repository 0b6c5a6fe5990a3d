/** IP ranges: dynamic ones are an admin's, reserved ones anybody's own. */
import { type Call, fields, type Handler } from '../call.ts';
import { ipNumber, parseIp } from '../ipv4.ts';
import { found } from '../lookup.ts';
import type { IpRange, Subnet } from '../model.ts';
import type { Region } from '../region.ts';
import { deleted, invalid, json, raisedText } from '../reply.ts';
import { renderIpRange } from '../render.ts';
import type { Resource } from '../router.ts';

const isType = (text: string): text is IpRange['type'] => text === 'dynamic' || text === 'reserved';

function checkSpan(
  region: Region,
  type: IpRange['type'],
  start: string,
  end: string,
  self?: IpRange,
): Subnet {
  const [from, to] = [ipNumber(start), ipNumber(end)];
  if (to < from) throw invalid({ end_ip: 'End IP address must not be less than Start IP address.' });
  const subnet = region.subnetOf(start);
  if (!subnet) throw invalid({ subnet: 'This field is required.' });
  const clash = region.ipRanges.some(
    (one) => one !== self && ipNumber(one.start) <= to && ipNumber(one.end) >= from,
  );
  const taken =
    type === 'dynamic' &&
    [...region.addresses.keys()].some((ip) => ipNumber(ip) >= from && ipNumber(ip) <= to);
  if (clash || taken) {
    const what = type === 'dynamic' ? 'an existing IP address or range' : 'an existing range';
    const text = `Requested ${type} range conflicts with ${what}.`;
    throw invalid({ start_ip: text, end_ip: text });
  }
  return subnet;
}

const createRange: Handler = (call) => {
  const { region, user } = call;
  const form = fields(call);
  const type = form.get('type') ?? '';
  const errors: Record<string, string | string[]> = {};
  const both = 'Start IP address and end IP address are both required.';
  if (type === '') errors.type = 'This field is required.';
  else if (!isType(type)) errors.type = `Select a valid choice. ${type} is not one of the available choices.`;
  const start = form.get('start_ip') ?? '';
  const end = form.get('end_ip') ?? '';
  if (start === '' || end === '') {
    errors[start === '' ? 'start_ip' : 'end_ip'] = ['This field is required.', both];
    errors[start === '' ? 'end_ip' : 'start_ip'] = [both];
  } else if (parseIp(start) === undefined || parseIp(end) === undefined)
    errors[parseIp(start) === undefined ? 'start_ip' : 'end_ip'] = 'Enter a valid IPv4 or IPv6 address.';
  if (type === 'dynamic' && !user.admin)
    throw raisedText(403, "Unable to create dynamic IP range. You don't have sufficient privileges.");
  if (Object.keys(errors).length > 0 || !isType(type)) throw invalid(errors);
  const subnet = checkSpan(region, type, start, end);
  const range: IpRange = {
    id: region.nextId('iprange'),
    type,
    start,
    end,
    subnetId: subnet.id,
    username: user.username,
    comment: form.get('comment') ?? '',
  };
  region.ipRanges.push(range);
  return json(renderIpRange(region, range));
};

const rangeOf = (call: Call): IpRange =>
  found(call.region.ipRanges, 'IPRange', (one) => String(one.id) === call.params[0]);

function ownRange(call: Call): IpRange {
  const range = rangeOf(call);
  if (!call.user.admin && range.username !== call.user.username)
    throw raisedText(403, "Unable to modify IP range. You don't own the IP range.");
  return range;
}

const updateRange: Handler = (call) => {
  const range = ownRange(call);
  const form = fields(call);
  const start = form.get('start_ip') ?? range.start;
  const end = form.get('end_ip') ?? range.end;
  checkSpan(call.region, range.type, start, end, range);
  Object.assign(range, { start, end, comment: form.get('comment') ?? range.comment });
  return json(renderIpRange(call.region, range));
};

const deleteRange: Handler = (call) => {
  call.region.ipRanges.splice(call.region.ipRanges.indexOf(ownRange(call)), 1);
  return deleted();
};

export const ipRangeResources: readonly Resource[] = [
  {
    path: /^ipranges\/$/,
    name: 'ipranges',
    methods: {
      GET: ({ region }) => json(region.ipRanges.map((one) => renderIpRange(region, one))),
      POST: createRange,
    },
  },
  {
    path: /^ipranges\/([^/]+)\/$/,
    name: 'iprange',
    methods: {
      GET: (call) => json(renderIpRange(call.region, rangeOf(call))),
      PUT: updateRange,
      DELETE: deleteRange,
    },
  },
];
