/** Version and `maas/` configuration. */
import { type Call, forAdmin, type Handler, mandatory } from '../call.ts';
import { NUMBER_SETTINGS } from '../config.ts';
import { compactJson, invalid, plain } from '../reply.ts';
import type { Resource } from '../router.ts';

const CAPABILITIES = [
  'networks-management',
  'static-ipaddresses',
  'ipv6-deployment-ubuntu',
  'devices-management',
  'storage-deployment-ubuntu',
  'network-deployment-ubuntu',
  'bridging-interface-ubuntu',
  'bridging-automatic-ubuntu',
  'authenticate-api',
];

const version: Handler = ({ region }) => ({
  ...compactJson({ capabilities: CAPABILITIES, version: region.flavour.version, subversion: '' }),
  origin: 'public-api',
});

function settingName(call: Call, name: string): string {
  const { config } = call.region;
  if (!config.has(name))
    throw invalid(
      {
        [name]: `${name} is not a valid config setting (valid settings are: ${[...config.keys()].join(', ')}).`,
      },
      'application/json',
    );
  return name;
}

const getConfig: Handler = (call) => {
  const name = settingName(call, mandatory(call.query, 'name'));
  return compactJson(call.region.config.get(name) ?? null, 'application/json');
};

const setConfig: Handler = (call) => {
  const name = settingName(call, mandatory(call.form, 'name'));
  const text = call.form.get('value') ?? '';
  const before = call.region.config.get(name);
  if (NUMBER_SETTINGS.has(name)) {
    if (!/^\d+$/.test(text)) throw invalid({ [name]: 'Enter a whole number.' });
    call.region.config.set(name, Number(text));
  } else {
    call.region.config.set(name, typeof before === 'boolean' ? /^(true|1|on|yes)$/i.test(text) : text);
  }
  return plain(200, 'OK');
};

/** The machine-readable index; a client may look at it, none of ours needs more than its shape. */
const describe: Handler = () => ({
  ...compactJson({ doc: 'MAAS API', handlers: [], hash: '', resources: [] }, 'application/json'),
  origin: 'public-raised',
});

export const settingResources: readonly Resource[] = [
  { path: /^describe\/$/, name: 'describe', methods: { GET: describe }, anonymous: 'yes' },
  { path: /^version\/$/, name: 'version', methods: { GET: version }, anonymous: 'yes' },
  {
    path: /^maas\/$/,
    name: 'maas',
    get: { get_config: getConfig },
    post: { set_config: forAdmin(setConfig) },
  },
];
