/** Label and field selectors as they stand in query strings and in LabelSelector objects. */
import type { Json, KubeObject } from './json.ts';
import { badRequest } from './status.ts';

export type ObjectTest = (object: KubeObject) => boolean;
type Labels = Record<string, string> | undefined;
type LabelTest = (labels: Labels) => boolean;

const KEY = String.raw`[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?`;
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^)]*)\\)$`);
const EQUAL = new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*([A-Za-z0-9._-]*)$`);
const ORDER = new RegExp(`^(${KEY})\\s*([<>])\\s*(-?\\d+)$`);
const PRESENT = new RegExp(`^(!?)\\s*(${KEY})$`);

/** Splits at commas outside parentheses. */
function requirements(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Throws a 400 Status for a selector that does not parse. */
export function parseLabelSelector(text: string): LabelTest {
  const tests = requirements(text).map((part): LabelTest => {
    const set = SET.exec(part);
    if (set) {
      const [, key = '', operator, list = ''] = set;
      const values = new Set(list.split(',').map((value) => value.trim()));
      const wanted = operator === 'in';
      return (labels) => (labels?.[key] === undefined ? !wanted : values.has(labels[key]) === wanted);
    }
    const equal = EQUAL.exec(part);
    if (equal) {
      const [, key = '', operator, value = ''] = equal;
      return operator === '!=' ? (labels) => labels?.[key] !== value : (labels) => labels?.[key] === value;
    }
    const order = ORDER.exec(part);
    if (order) {
      const [, key = '', operator, bound] = order;
      return (labels) => {
        const value = Number(labels?.[key] ?? Number.NaN);
        return operator === '<' ? value < Number(bound) : value > Number(bound);
      };
    }
    const present = PRESENT.exec(part);
    if (present) {
      const [, not, key = ''] = present;
      return (labels) => (labels?.[key] !== undefined) === (not !== '!');
    }
    throw badRequest(`unable to parse requirement: found '${part}'`);
  });
  return (labels) => tests.every((test) => test(labels));
}

/** A metav1.LabelSelector; undefined selects nothing, {} selects everything. */
export function matchesSelector(selector: Json, labels: Labels): boolean {
  if (!selector) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    if (labels?.[key] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = labels?.[key];
    if (operator === 'In' && !(value !== undefined && values.includes(value))) return false;
    if (operator === 'NotIn' && value !== undefined && values.includes(value)) return false;
    if (operator === 'Exists' && value === undefined) return false;
    if (operator === 'DoesNotExist' && value !== undefined) return false;
  }
  return true;
}

/** Field paths that the real server supports, per resource; metadata.name and .namespace always. */
const FIELDS: Record<string, readonly string[]> = {
  pods: [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  nodes: ['spec.unschedulable'],
  events: [
    'involvedObject.kind',
    'involvedObject.namespace',
    'involvedObject.name',
    'involvedObject.uid',
    'involvedObject.apiVersion',
    'involvedObject.resourceVersion',
    'involvedObject.fieldPath',
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  secrets: ['type'],
  namespaces: ['status.phase'],
  replicasets: ['status.replicas'],
  jobs: ['status.successful'],
  certificatesigningrequests: ['spec.signerName'],
};

/** Throws a 400 Status when the resource does not support the field. */
export function parseFieldSelector(text: string, plural: string): ObjectTest {
  const tests = requirements(text).map((part): ObjectTest => {
    const match = /^([^=!]+?)\s*(==|=|!=)\s*(.*)$/.exec(part);
    if (!match) throw badRequest(`invalid selector: '${part}'; can't understand '${part}'`);
    const [, path = '', operator, value = ''] = match;
    if (path !== 'metadata.name' && path !== 'metadata.namespace' && !FIELDS[plural]?.includes(path))
      throw badRequest(`field label not supported: ${path}`);
    const keys = path.split('.');
    return (object) => {
      let at: Json = object;
      for (const key of keys) at = at?.[key];
      const text =
        at === undefined || at === null ? (path === 'spec.unschedulable' ? 'false' : '') : String(at);
      return (text === value) === (operator !== '!=');
    };
  });
  return (object) => tests.every((test) => test(object));
}
