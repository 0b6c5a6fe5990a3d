/** `boot-resources/`: which images can be deployed, and uploads of own ones. */
import { type Call, forAdmin, type Handler } from '../call.ts';
import { found } from '../lookup.ts';
import type { BootResource } from '../model.ts';
import { compactJson, deleted, invalid, json, pythonRepr, raisedText } from '../reply.ts';
import { renderImage, renderImageWithSets } from '../render.ts';
import type { Resource } from '../router.ts';

const list: Handler = ({ region, query }) => {
  const type = query.get('type') ?? 'all';
  if (!['all', 'synced', 'uploaded'].includes(type))
    throw raisedText(
      400,
      `${pythonRepr(type)} is not a valid boot resource type. Available types: ['synced', 'uploaded']`,
    );
  const images = region.images
    .filter((image) => type === 'all' || (type === 'uploaded') === image.uploaded)
    .sort((a, b) => Number(a.uploaded) - Number(b.uploaded) || (a.name < b.name ? -1 : 1));
  return json(images.map(renderImage));
};

const upload: Handler = (call) => {
  const { region, form } = call;
  const name = form.get('name') ?? '';
  const architecture = form.get('architecture') ?? '';
  const errors: Record<string, string> = {};
  if (name === '') errors.name = 'This field is required.';
  if (architecture === '') errors.architecture = 'This field is required.';
  if (Object.keys(errors).length > 0) throw invalid(errors);
  const content = call.uploads.find((one) => one.name === 'content');
  const image: BootResource = {
    id: region.nextId('image'),
    uploaded: true,
    name: name.replace(/^custom\//, ''),
    architecture,
    title: form.get('title') ?? '',
    subarches: architecture.split('/')[1] ?? 'generic',
    baseImage: form.get('base_image') ?? 'ubuntu/jammy',
    sizeBytes: content?.sizeBytes ?? Number(form.get('size') ?? 0),
    complete: content !== undefined,
    lastDeployedAt: null,
  };
  region.images.push(image);
  return { ...json(renderImageWithSets(image)), status: 201 };
};

const imageOf = (call: Call): BootResource =>
  found(call.region.images, 'BootResource', (one) => String(one.id) === call.params[0]);

export const imageResources: readonly Resource[] = [
  {
    path: /^boot-resources\/$/,
    name: 'boot-resources',
    methods: { GET: list, POST: forAdmin(upload) },
    get: { is_importing: () => json(false) },
    post: {
      import: forAdmin(() => ({
        ...compactJson(null),
        contentType: 'text/plain',
        body: 'Import of boot resources started',
      })),
    },
  },
  {
    path: /^boot-resources\/([^/]+)\/$/,
    name: 'boot-resource',
    methods: {
      GET: (call) => json(renderImageWithSets(imageOf(call))),
      DELETE: forAdmin((call) => {
        call.region.images.splice(call.region.images.indexOf(imageOf(call)), 1);
        return deleted();
      }),
    },
  },
  { path: /^boot-sources\/$/, name: 'boot-sources', methods: { GET: () => json([]) }, anonymous: 'admin' },
  {
    path: /^boot-sources\/([^/]+)\/(?:selections\/)?$/,
    name: 'boot-source',
    methods: { GET: () => found([], 'BootSource', () => false) },
  },
];
