/** Tags, and which machines carry them. */
import { type Call, fields, type Handler } from '../call.ts';
import { found } from '../lookup.ts';
import { deleted, invalid, json, rawJson, refused } from '../reply.ts';
import { renderTag } from '../render.ts';
import type { Resource } from '../router.ts';

const TAG_NAME = /^[a-zA-Z0-9_-]+$/;
const tagOf = (call: Call) => found(call.region.tags.values(), 'Tag', (tag) => tag.name === call.params[0]);

const adminWithoutWords =
  (handler: Handler): Handler =>
  (call) => {
    if (!call.user.admin) throw refused();
    return handler(call);
  };

/** Only obviously broken expressions are refused. */
const checkDefinition = (definition: string): void => {
  if (
    /^\/\/?\[|\[$|\($/.test(definition) ||
    (definition.match(/\[/g)?.length ?? 0) !== (definition.match(/\]/g)?.length ?? 0)
  )
    throw invalid({ definition: 'Invalid xpath expression: Invalid expression' });
};

const createTag: Handler = (call) => {
  const form = fields(call);
  const name = form.get('name') ?? '';
  if (name === '') throw invalid({ name: 'This field is required.' });
  if (!TAG_NAME.test(name)) throw invalid({ name: 'Enter a valid value.' });
  if (call.region.tags.has(name)) throw invalid({ name: 'Tag with this Name already exists.' });
  const definition = form.get('definition') ?? '';
  checkDefinition(definition);
  const tag = {
    name,
    definition,
    comment: form.get('comment') ?? '',
    kernelOpts: form.get('kernel_opts') ?? '',
  };
  call.region.tags.set(name, tag);
  return json(renderTag(tag));
};

const updateTag: Handler = (call) => {
  const tag = tagOf(call);
  const form = fields(call);
  tag.comment = form.get('comment') ?? tag.comment;
  tag.kernelOpts = form.get('kernel_opts') ?? tag.kernelOpts;
  tag.definition = form.get('definition') ?? tag.definition;
  return json(renderTag(tag));
};

const deleteTag: Handler = (call) => {
  const tag = tagOf(call);
  call.region.tags.delete(tag.name);
  for (const machine of call.region.machines.values()) machine.tags.delete(tag.name);
  return deleted();
};

const taggedMachines: Handler = (call) => {
  const tag = tagOf(call);
  const machines = [...call.region.machines.values()];
  return rawJson(
    call.site.cache.list(
      machines.filter((machine) => machine.tags.has(tag.name) && call.region.visibleTo(call.user, machine)),
    ),
  );
};

/** Unknown machines are passed over in silence. */
const updateNodes: Handler = (call) => {
  const tag = tagOf(call);
  const change = (key: string, apply: (tags: Set<string>) => void) => {
    const machines = call.form.all(key).flatMap((id) => call.region.machines.get(id) ?? []);
    for (const machine of machines) apply(machine.tags);
    return machines.length;
  };
  const added = change('add', (tags) => tags.add(tag.name));
  const removed = change('remove', (tags) => tags.delete(tag.name));
  return json({ added, removed });
};

export const tagResources: readonly Resource[] = [
  {
    path: /^tags\/$/,
    name: 'tags',
    methods: {
      GET: ({ region }) => json([...region.tags.values()].map(renderTag)),
      POST: adminWithoutWords(createTag),
    },
  },
  {
    path: /^tags\/([^/]+)\/$/,
    name: 'tag',
    methods: {
      GET: (call) => json(renderTag(tagOf(call))),
      PUT: adminWithoutWords(updateTag),
      DELETE: adminWithoutWords(deleteTag),
    },
    get: { machines: taggedMachines, nodes: taggedMachines, devices: () => json([]) },
    post: {
      update_nodes: adminWithoutWords(updateNodes),
      rebuild: (call) => json({ rebuilding: tagOf(call).name }),
    },
  },
];
