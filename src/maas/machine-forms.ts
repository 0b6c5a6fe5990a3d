/**
 * What goes into queries and forms of machine calls, and what is refused before it is sent: MAAS answers
 * unknown names with 400, odd annotation keys with 500, and an unconstrained allocate with a random machine.
 */
import { PcgError } from '../base/errors.ts';
import type { AllocateRequest, DeployRequest, EraseMode, MachineFilter } from './client.ts';
import type { Pairs } from './http.ts';

/** MAAS's nginx refuses bodies over 10 MiB; leave room for the other fields. */
const MAX_FORM_BYTES = 10 * 1024 * 1024 - 65_536;
/** MAAS stores annotations of any size and then sends them twice with every reading of the machine. */
const MAX_ANNOTATION_CHARS = 4096;
const MAX_COMMENT_CHARS = 255;

const AGENT_NAME = /^[A-Za-z0-9._-]{1,255}$/;
const SYSTEM_ID = /^[A-Za-z0-9]{1,64}$/;
const ANNOTATION_KEY = /^[\w.-]{1,255}$/;

/** The path of a machine; an id that is not one never becomes a part of it. Throws INVALID_INPUT. */
export function machinePath(systemId: string, root: 'machines' | 'nodes' = 'machines'): string {
  return `${root}/${checkedId(systemId)}/`;
}

function checkedId(systemId: string): string {
  if (SYSTEM_ID.test(systemId)) return systemId;
  throw new PcgError('INVALID_INPUT', 'not a MAAS system id', { field: 'systemId' });
}

function many(name: string, values: readonly (string | number)[] | undefined): Pairs {
  return (values ?? []).map((value) => [name, String(value)]);
}

function one(name: string, value: string | number | undefined): Pairs {
  return value === undefined ? [] : [[name, String(value)]];
}

export function filterQuery(filter: MachineFilter, ids: readonly string[] | undefined): Pairs {
  return [
    ...many('id', ids),
    ...one('agent_name', filter.agentName),
    ...many('status', filter.statuses),
    ...many('pool', filter.pools),
    ...many('zone', filter.zones),
    ...many('tags', filter.tags),
    ...many('not_tags', filter.notTags),
    ...one('cpu_count', filter.minCpu),
    ...one('mem', filter.minMemoryMiB),
    ...one('owner', filter.owner),
    ...many('hostname', filter.hostnames),
  ];
}

export function allocateForm(request: AllocateRequest): Pairs {
  if (!AGENT_NAME.test(request.agentName)) {
    throw new PcgError('INVALID_INPUT', 'an agent name is 1-255 of letters, digits, _ . -', {
      field: 'agentName',
    });
  }
  const constraints: Pairs =
    request.systemId !== undefined
      ? [['system_id', checkedId(request.systemId)], ...commonConstraints(request)]
      : [
          ...commonConstraints(request),
          ...(request.minDiskGb === undefined ? [] : [['storage', `root:${request.minDiskGb}`] as const]),
          // When nothing is Ready, MAAS would compose a VM, looking at neither pool nor name.
          ...(request.allowVirtual ? [] : many('not_pod_type', ['lxd', 'virsh'])),
        ];
  if (constraints.length === 0) {
    throw new PcgError('INVALID_INPUT', 'an allocate without any constraint would take a random machine');
  }
  return [
    ...constraints,
    ['agent_name', request.agentName],
    ...commentForm(request.comment),
    ...(request.dryRun ? [['dry_run', 'true'] as const] : []),
  ];
}

/** Whether the request names anything besides the guard against VMs, so that it would not take just any machine. */
export function isConstrained(request: AllocateRequest): boolean {
  return !request.allowVirtual && (request.minDiskGb !== undefined || commonConstraints(request).length > 0);
}

function commonConstraints(request: AllocateRequest): Pairs {
  return [
    ...one('pool', request.pool),
    ...many('zone', request.zones),
    ...one('cpu_count', request.minCpu),
    ...one('mem', request.minMemoryMiB),
    ...many('tags', request.tags),
    ...many('not_tags', request.notTags),
  ];
}

export function deployForm(request: DeployRequest): Pairs {
  const userData = Buffer.from(request.userData, 'utf8').toString('base64');
  // Base64's + / = grow threefold in a form; this bounds the worst case well enough.
  if (userData.length * 1.1 > MAX_FORM_BYTES) {
    throw new PcgError('INVALID_INPUT', 'the user-data is larger than MAAS accepts (10 MiB in a request)', {
      field: 'userData',
    });
  }
  return [
    // MAAS ignores `osystem`, so the series carries it: ubuntu/noble, custom/<image>.
    ['distro_series', request.image],
    ['user_data', userData],
    ...one('hwe_kernel', request.hweKernel),
    ...commentForm(request.comment),
  ];
}

/** Up to 3.4 quick and secure have no effect without erase; later any of them implies it. */
export function eraseForm(erase: EraseMode): Pairs {
  switch (erase) {
    case 'none':
      return [];
    case 'full':
      return [['erase', 'true']];
    case 'quick':
      return [
        ['erase', 'true'],
        ['quick_erase', 'true'],
      ];
    case 'secure':
      return [
        ['erase', 'true'],
        ['secure_erase', 'true'],
      ];
  }
}

export function commentForm(comment: string | undefined): Pairs {
  return comment === undefined || comment === '' ? [] : [['comment', comment.slice(0, MAX_COMMENT_CHARS)]];
}

/** Throws INVALID_INPUT, naming the key. An empty value deletes the annotation. */
export function annotationForm(annotations: Readonly<Record<string, string>>): Pairs {
  return Object.entries(annotations).map(([key, value]) => {
    if (!ANNOTATION_KEY.test(key)) {
      throw new PcgError('INVALID_INPUT', 'annotation keys are 1-255 of letters, digits, _ . -', {
        field: key,
      });
    }
    if (value.length > MAX_ANNOTATION_CHARS) {
      throw new PcgError('INVALID_INPUT', `annotations are at most ${MAX_ANNOTATION_CHARS} characters`, {
        field: key,
      });
    }
    return [key, value] as const;
  });
}
