/**
 * The verbs on stored objects: get, list, create, replace, patch, delete. One path for every writer
 * (clients, kubelets, controllers): optimistic concurrency, generation, field managers, finalizers.
 * Reads and writes fail as etcd fails when `guard` says so.
 */
import { randomBytes } from 'node:crypto';
import { type AdmissionContext, admit } from './admission.ts';
import { autoscalerAs } from './autoscaling.ts';
import { serverSideApply, trackUpdate } from './apply.ts';
import { type Json, type KubeObject, clone, isRecord, sameJson } from './json.ts';
import { jsonPatch, mergePatch, strategicPatch } from './patch.ts';
import type { UserInfo } from './request.ts';
import { R, type ResourceRegistry, type ResourceType } from './resources.ts';
import { ANY, type SchemaNode, builtInSchema, checkFields, customSchema, pruneFields } from './schema.ts';
import { type ObjectTest, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import {
  ApiError,
  alreadyExists,
  badRequest,
  conflict,
  gone,
  invalid,
  notFound,
  unsupportedMediaType,
} from './status.ts';
import type { ObjectStore } from './store.ts';

/** Namespaces that admission keeps from everybody. */
const IMMORTAL: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public']);

export interface WriteOptions {
  readonly user: UserInfo;
  readonly fieldManager: string;
  readonly dryRun?: boolean;
  readonly fieldValidation?: string;
  readonly force?: boolean;
  readonly subresource?: string;
  /** Receives one `Warning:` header text. */
  readonly warn?: (text: string) => void;
}

export interface DeleteOptions {
  readonly propagationPolicy?: string;
  readonly gracePeriodSeconds?: number;
  readonly preconditions?: { uid?: string; resourceVersion?: string };
  readonly dryRun?: boolean;
}

export interface ListQuery {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | null;
  readonly fieldSelector?: string | null;
  readonly limit?: number;
  readonly continueToken?: string | null;
}

export interface ObjectPage {
  readonly items: KubeObject[];
  readonly resourceVersion: string;
  readonly continueToken?: string;
  readonly remaining?: number;
}

const schemas = new WeakMap<object, SchemaNode>();

export function schemaOf(type: ResourceType): SchemaNode {
  if (!type.custom) return builtInSchema(type.kind) ?? ANY;
  let node = schemas.get(type.custom);
  if (!node) {
    node = customSchema(type.custom.schema?.openAPIV3Schema);
    schemas.set(type.custom, node);
  }
  return node;
}

/** Kinds whose status a client changes only through the status subresource. */
const hasStatus = (type: ResourceType) => type.subresources.includes('status');

export class Objects {
  readonly store: ObjectStore;
  readonly registry: ResourceRegistry;
  readonly #now: () => number;
  readonly #guard: () => void;
  readonly #guardWrite: () => void;
  readonly #serviceIp: AdmissionContext['serviceIp'];

  constructor(options: {
    store: ObjectStore;
    registry: ResourceRegistry;
    now: () => number;
    /** Throws what a client sees when etcd has no quorum. */
    guard: () => void;
    /** The same when etcd is full: what is deleted at once still goes. */
    guardWrite: () => void;
    serviceIp: AdmissionContext['serviceIp'];
  }) {
    this.store = options.store;
    this.registry = options.registry;
    this.#now = options.now;
    this.#guard = options.guard;
    this.#guardWrite = options.guardWrite;
    this.#serviceIp = options.serviceIp;
  }

  #time(): string {
    return new Date(this.#now()).toISOString().replace(/\.\d+Z$/, 'Z');
  }

  get(type: ResourceType, namespace: string | undefined, name: string): KubeObject {
    this.#guard();
    const object = this.store.get(type.storage, namespace, name);
    if (!object) throw notFound(type, name);
    return this.#asVersion(object, type);
  }

  /** Objects are stored in the version they were written in; versions of one kind differ in name only here. */
  #asVersion(object: KubeObject, type: ResourceType): KubeObject {
    const apiVersion = type.group ? `${type.group}/${type.version}` : type.version;
    if (object.apiVersion === apiVersion) return object;
    if (type.group === 'autoscaling') return autoscalerAs(object, type.version);
    return { ...object, apiVersion, kind: type.kind };
  }

  /** The test that selectors in a list or watch query mean. */
  selection(type: ResourceType, query: ListQuery): ObjectTest {
    const labels = query.labelSelector ? parseLabelSelector(query.labelSelector) : undefined;
    const fields = query.fieldSelector ? parseFieldSelector(query.fieldSelector, type.plural) : undefined;
    return (object) =>
      (query.namespace === undefined || object.metadata.namespace === query.namespace) &&
      (labels?.(object.metadata.labels) ?? true) &&
      (fields?.(object) ?? true);
  }

  list(type: ResourceType, query: ListQuery): ObjectPage {
    this.#guard();
    const test = this.selection(type, query);
    let start: string | undefined;
    let resourceVersion = String(this.store.revision);
    if (query.continueToken) {
      try {
        const token = JSON.parse(Buffer.from(query.continueToken, 'base64url').toString());
        start = String(token.start);
        resourceVersion = String(token.rv);
      } catch {
        throw badRequest('continue key is not valid');
      }
      if (this.store.since(type.storage, Number(resourceVersion)) === undefined)
        throw gone('The provided continue parameter is too old to display a consistent list result.');
    }
    const found = this.store.list(type.storage, query.namespace).filter(test);
    const keyOf = (object: KubeObject) => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
    const from = start;
    const rest = from === undefined ? found : found.filter((object) => keyOf(object) > from);
    const page = query.limit && query.limit > 0 ? rest.slice(0, query.limit) : rest;
    const last = page.at(-1);
    const items = page.map((object) => this.#asVersion(object, type));
    if (page.length === rest.length || !last) return { items, resourceVersion };
    const continueToken = Buffer.from(JSON.stringify({ rv: resourceVersion, start: keyOf(last) })).toString(
      'base64url',
    );
    return { items, resourceVersion, continueToken, remaining: rest.length - page.length };
  }

  /** Checks apiVersion, kind and fields of a body. */
  #decode(type: ResourceType, body: Json, options: WriteOptions): KubeObject {
    const apiVersion = type.group ? `${type.group}/${type.version}` : type.version;
    if (!isRecord(body)) throw badRequest('the object provided is unrecognized (must be of type Object)');
    if (body.kind === undefined || body.apiVersion === undefined) {
      body = { apiVersion, kind: type.kind, ...body };
    }
    if (body.apiVersion !== apiVersion || body.kind !== type.kind)
      throw badRequest(
        `the API version in the data (${body.apiVersion}, Kind=${body.kind}) does not match the expected API version (${apiVersion}, Kind=${type.kind})`,
      );
    if (!isRecord(body.metadata)) body = { ...body, metadata: {} };
    const problems = checkFields(body, schemaOf(type));
    const wrong = problems.find((problem) => problem.kind === 'type');
    if (wrong)
      throw type.custom
        ? invalid(type.kind, type.group, body.metadata.name ?? '', [
            {
              reason: 'FieldValueTypeInvalid',
              message: `Invalid value: ${wrong.message}`,
              field: wrong.path,
            },
          ])
        : badRequest(
            `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: ${wrong.message}`,
          );
    const unknown = problems.filter((problem) => problem.kind === 'unknown');
    if (unknown.length > 0 && options.fieldValidation === 'Strict')
      throw badRequest(
        type.custom
          ? `strict decoding error: ${unknown.map((problem) => problem.message).join(', ')}`
          : `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: strict decoding error: ${unknown.map((problem) => problem.message).join(', ')}`,
      );
    if (options.fieldValidation !== 'Ignore') for (const problem of unknown) options.warn?.(problem.message);
    const object = clone(body) as KubeObject;
    return (unknown.length > 0 ? pruneFields(object, schemaOf(type)) : object) as KubeObject;
  }

  create(type: ResourceType, namespace: string | undefined, body: Json, options: WriteOptions): KubeObject {
    this.#guard();
    const object = this.#decode(type, body, options);
    const { metadata } = object;
    if (type.namespaced) {
      if (metadata.namespace && metadata.namespace !== namespace)
        throw badRequest(
          'the namespace of the provided object does not match the namespace sent on the request',
        );
      if (namespace !== undefined) metadata.namespace = namespace;
      this.#checkNamespace(type, namespace, metadata.name ?? '');
    } else delete metadata.namespace;
    if (!metadata.name && metadata.generateName) metadata.name = metadata.generateName + suffix();
    if (!metadata.name)
      throw invalid(type.kind, type.group, '', [
        {
          reason: 'FieldValueRequired',
          message: 'Required value: name or generateName is required',
          field: 'metadata.name',
        },
      ]);
    if (this.store.get(type.storage, namespace, metadata.name)) throw alreadyExists(type, metadata.name);
    if (metadata.resourceVersion)
      throw badRequest('resourceVersion should not be set on objects to be created');
    for (const field of [
      'uid',
      'selfLink',
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
      'creationTimestamp',
    ])
      delete metadata[field];
    if (object.spec !== undefined) metadata.generation = 1;
    else delete metadata.generation;
    if (hasStatus(type) && type.custom) delete object.status;
    admit(type, object, undefined, this.#admission(options));
    trackUpdate(undefined, object, schemaOf(type), this.#identity(options));
    return options.dryRun ? this.#dry(object) : this.#create(type, object);
  }

  #create(type: ResourceType, object: KubeObject): KubeObject {
    this.#guardWrite();
    return this.store.create(type.storage, object);
  }

  #update(type: ResourceType, object: KubeObject): KubeObject {
    this.#guardWrite();
    return this.store.update(type.storage, object);
  }

  #dry(object: KubeObject): KubeObject {
    object.metadata.uid ??= '00000000-0000-0000-0000-000000000000';
    object.metadata.creationTimestamp ??= this.#time();
    return object;
  }

  #checkNamespace(type: ResourceType, namespace: string | undefined, name: string): void {
    const owner = this.store.get(R.namespaces, undefined, namespace ?? '');
    if (!owner) throw notFound({ group: '', plural: 'namespaces' }, namespace ?? '');
    if (owner.metadata.deletionTimestamp)
      throw new ApiError(
        403,
        'Forbidden',
        `${type.plural}${type.group ? `.${type.group}` : ''} "${name}" is forbidden: unable to create new content in namespace ${namespace} because it is being terminated`,
        {
          name,
          kind: type.plural,
          causes: [
            {
              reason: 'NamespaceTerminating',
              message: `namespace ${namespace} is being terminated`,
              field: 'metadata.namespace',
            },
          ],
        },
      );
  }

  #admission(options: WriteOptions): AdmissionContext {
    return { store: this.store, user: options.user, serviceIp: this.#serviceIp };
  }

  #identity(options: WriteOptions) {
    return { manager: options.fieldManager, subresource: options.subresource ?? '', time: this.#time() };
  }

  replace(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    body: Json,
    options: WriteOptions,
  ): KubeObject {
    this.#guard();
    const object = this.#decode(type, body, options);
    if (object.metadata.name !== undefined && object.metadata.name !== name)
      throw badRequest(
        `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
      );
    object.metadata.name = name;
    if (type.namespaced && namespace !== undefined) object.metadata.namespace = namespace;
    const before = this.store.get(type.storage, namespace, name);
    if (!before) throw notFound(type, name);
    return this.#store(type, before, object, options, true);
  }

  /** Changes an object by function, as a well-behaved client would; undefined = leave it. For kubelets and controllers. */
  change(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    edit: (draft: KubeObject) => void,
    options: WriteOptions,
  ): KubeObject | undefined {
    this.#guard();
    const before = this.store.get(type.storage, namespace, name);
    if (!before) return undefined;
    const draft = clone(before);
    edit(draft);
    return this.#store(type, before, draft, options, true);
  }

  #store(
    type: ResourceType,
    before: KubeObject,
    after: KubeObject,
    options: WriteOptions,
    track: boolean,
  ): KubeObject {
    const { metadata } = after;
    const was = before.metadata;
    if (metadata.resourceVersion && metadata.resourceVersion !== was.resourceVersion)
      throw conflict(type, was.name);
    if (metadata.uid && metadata.uid !== was.uid)
      throw conflict(
        type,
        was.name,
        `Precondition failed: UID in precondition: ${metadata.uid}, UID in object meta: ${was.uid}`,
      );
    for (const field of [
      'uid',
      'creationTimestamp',
      'generation',
      'resourceVersion',
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
      'generateName',
    ])
      if (was[field] === undefined) delete metadata[field];
      else metadata[field] = was[field];
    let next = after;
    if (options.subresource === 'status') {
      next = {
        ...before,
        metadata: { ...was, ...pick(metadata, ['labels', 'annotations', 'finalizers', 'managedFields']) },
      };
      next.status = after.status;
      if (next.status === undefined) delete next.status;
    } else if (options.subresource !== 'approval' && hasStatus(type) && !privileged(options)) {
      if (before.status === undefined) delete next.status;
      else next.status = before.status;
    }
    if (options.subresource !== 'status') admit(type, next, before, this.#admission(options));
    if (track) trackUpdate(before, next, schemaOf(type), this.#identity(options));
    const same = (a: KubeObject, b: KubeObject) =>
      sameJson(
        { ...a, metadata: { ...a.metadata, managedFields: 0 } },
        { ...b, metadata: { ...b.metadata, managedFields: 0 } },
      );
    if (same(before, next)) {
      const owners = (object: KubeObject) =>
        JSON.stringify((object.metadata.managedFields ?? []).map(({ time: _, ...entry }: Json) => entry));
      if (owners(before) === owners(next)) return before;
    } else if (specChanged(before, next)) next.metadata.generation = (was.generation ?? 0) + 1;
    if (options.dryRun) return this.#dry(next);
    if (next.metadata.deletionTimestamp && isFinal(next)) {
      this.store.delete(type.storage, was.namespace, was.name);
      return next;
    }
    return this.#update(type, clone(next));
  }

  patch(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    contentType: string,
    patch: Json,
    options: WriteOptions,
  ): KubeObject {
    this.#guard();
    const before = this.store.get(type.storage, namespace, name);
    const node = schemaOf(type);
    if (contentType === 'application/apply-patch+yaml')
      return this.#apply(type, namespace, name, before, patch, options);
    if (!before) throw notFound(type, name);
    const from = this.#asVersion(before, type);
    let after: Json;
    if (contentType === 'application/json-patch+json') after = jsonPatch(from, patch);
    else if (contentType === 'application/merge-patch+json') after = mergePatch(from, patch);
    else if (contentType === 'application/strategic-merge-patch+json') {
      if (type.custom) throw unsupportedMediaType(contentType);
      after = strategicPatch(from, patch, node);
    } else throw unsupportedMediaType(contentType);
    const decoded = this.#decode(type, after, options);
    // A resourceVersion in the patch is a precondition; without one the patch applies to whatever is there.
    if (decoded.metadata.resourceVersion === undefined)
      decoded.metadata.resourceVersion = before.metadata.resourceVersion ?? '';
    if (decoded.metadata.name !== name)
      throw badRequest(
        `the name of the object (${decoded.metadata.name}) does not match the name on the URL (${name})`,
      );
    return this.#store(type, before, decoded, options, true);
  }

  #apply(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    before: KubeObject | undefined,
    body: Json,
    options: WriteOptions,
  ): KubeObject {
    if (!options.fieldManager)
      throw new ApiError(
        422,
        'Invalid',
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        {
          causes: [
            {
              reason: 'FieldValueRequired',
              message: 'Required value: is required for apply patch',
              field: 'fieldManager',
            },
          ],
        },
      );
    if (!isRecord(body) || body.kind === undefined || body.apiVersion === undefined)
      throw badRequest('error decoding YAML: object does not contain apiVersion and kind');
    const applied = this.#decode(type, body, options);
    if (
      isRecord(body.metadata) &&
      body.metadata.managedFields !== undefined &&
      body.metadata.managedFields !== null
    )
      throw badRequest('metadata.managedFields must be nil');
    if (applied.metadata.name !== undefined && applied.metadata.name !== name)
      throw badRequest(
        `metadata.name (${applied.metadata.name}) does not match the name on the URL (${name})`,
      );
    if (applied.metadata.uid && before && applied.metadata.uid !== before.metadata.uid)
      throw conflict(type, name, 'Precondition failed: UID');
    if (
      applied.metadata.resourceVersion &&
      before &&
      applied.metadata.resourceVersion !== before.metadata.resourceVersion
    )
      throw conflict(type, name);
    applied.metadata = pick(applied.metadata, [
      'labels',
      'annotations',
      'finalizers',
      'ownerReferences',
    ]) as KubeObject['metadata'];
    applied.metadata.name = name;
    if (type.namespaced && namespace !== undefined) applied.metadata.namespace = namespace;
    const identity = this.#identity(options);
    const live = before && this.#asVersion(before, type);
    const merged = serverSideApply(live, applied, schemaOf(type), identity, options.force === true);
    merged.metadata.name = name;
    if (type.namespaced && namespace !== undefined) merged.metadata.namespace = namespace;
    if (before) return this.#store(type, before, merged, options, false);
    if (options.subresource) throw notFound(type, name);
    if (type.namespaced) this.#checkNamespace(type, namespace, name);
    if (merged.spec !== undefined) merged.metadata.generation = 1;
    if (hasStatus(type)) delete merged.status;
    admit(type, merged, undefined, this.#admission(options));
    return options.dryRun ? this.#dry(merged) : this.#create(type, merged);
  }

  /** The object when it is still there (finalizers, grace), undefined when it is gone. */
  delete(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    options: DeleteOptions,
  ): { gone: KubeObject } | { going: KubeObject } {
    this.#guard();
    const before = this.store.get(type.storage, namespace, name);
    if (!before) throw notFound(type, name);
    if (type.storage === R.namespaces && IMMORTAL.has(name))
      throw new ApiError(
        403,
        'Forbidden',
        `namespaces "${name}" is forbidden: this namespace may not be deleted`,
        { name, kind: 'namespaces' },
      );
    const { uid, resourceVersion } = options.preconditions ?? {};
    if (uid && uid !== before.metadata.uid)
      throw conflict(
        type,
        name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${before.metadata.uid}`,
      );
    if (resourceVersion && resourceVersion !== before.metadata.resourceVersion) throw conflict(type, name);
    if (options.dryRun) return { gone: before };
    const next = clone(before);
    const { metadata } = next;
    const finalizers = new Set(metadata.finalizers ?? []);
    if (options.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion');
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan');
    if (finalizers.size > 0) metadata.finalizers = [...finalizers];
    const scheduled =
      type.kind === 'Pod' && type.group === '' && Boolean(before.spec?.nodeName) && !isMirror(before);
    const finished = ['Succeeded', 'Failed'].includes(before.status?.phase);
    const grace =
      scheduled && !finished
        ? (options.gracePeriodSeconds ?? before.spec.terminationGracePeriodSeconds ?? 30)
        : 0;
    const already = before.metadata.deletionTimestamp !== undefined;
    const namespaceItself = type.kind === 'Namespace' && type.group === '';
    if (finalizers.size === 0 && grace === 0 && !namespaceItself) {
      return { gone: this.store.delete(type.storage, namespace, name) ?? before };
    }
    if (
      already &&
      (metadata.deletionGracePeriodSeconds ?? 0) <= grace &&
      sameJson(metadata.finalizers, before.metadata.finalizers)
    )
      return { going: before };
    metadata.deletionTimestamp = new Date(this.#now() + grace * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
    metadata.deletionGracePeriodSeconds = grace;
    metadata.generation = (metadata.generation ?? 0) + 1;
    if (namespaceItself) next.status = { ...next.status, phase: 'Terminating' };
    return { going: this.#update(type, next) };
  }
}

export const isMirror = (pod: KubeObject) =>
  pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;

/** Nothing holds a deleted object any more. */
function isFinal(object: KubeObject): boolean {
  if (object.metadata.finalizers && object.metadata.finalizers.length > 0) return false;
  if (object.kind === 'Namespace') return (object.spec?.finalizers?.length ?? 0) === 0;
  return !(object.kind === 'Pod' && (object.metadata.deletionGracePeriodSeconds ?? 0) > 0);
}

/** The double's own controllers may set spec and status in one write. */
const privileged = (options: WriteOptions) => options.subresource === '*';

function specChanged(before: KubeObject, after: KubeObject): boolean {
  const rest = ({ metadata: _m, status: _s, ...fields }: KubeObject) => fields;
  return !sameJson(rest(before), rest(after));
}

function pick(from: Json, keys: readonly string[]): Json {
  return Object.fromEntries(keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]]));
}

const SUFFIX = 'bcdfghjklmnpqrstvwxz2456789';
export function suffix(length = 5): string {
  return [...randomBytes(length)].map((byte) => SUFFIX[byte % SUFFIX.length]).join('');
}
