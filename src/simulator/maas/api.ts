/**
 * MAAS behind nginx: one request in, one reply out. Order of the checks is MAAS's own: endpoint, body,
 * credentials, method, operation, handler. Nonces burn and caches drop only when the transaction commits.
 */
import { answer, type Call, isReply, parseBody } from './call.ts';
import { decodeComponent, Form, parseUrlEncoded } from './form.ts';
import { Nonces } from './nonces.ts';
import { authenticate, forbidden } from './oauth.ts';
import { outsideApi } from './outside.ts';
import { nginxPage, plain, raisedText, type Reply } from './reply.ts';
import type { Region } from './region.ts';
import {
  allowedMethods,
  findHandler,
  findResource,
  methodNotAllowed,
  unrecognised,
  wantedOp,
  type Resource,
} from './router.ts';
import { accountResources } from './routes/account.ts';
import { addressesResource } from './routes/addresses.ts';
import { eventsResource } from './routes/events.ts';
import { fabricResources } from './routes/fabrics.ts';
import { imageResources } from './routes/images.ts';
import { ipRangeResources } from './routes/ip-ranges.ts';
import { machineResource, nodeResource } from './routes/machine.ts';
import { machinesResource, nodesResource } from './routes/machines.ts';
import { nameResources } from './routes/names.ts';
import { nodePartResources } from './routes/node-parts.ts';
import { otherResources } from './routes/others.ts';
import { placeResources } from './routes/places.ts';
import { settingResources } from './routes/settings.ts';
import { subnetResources } from './routes/subnets.ts';
import { tagResources } from './routes/tags.ts';
import type { Site } from './site.ts';
import type { User } from './model.ts';

const RESOURCES: readonly Resource[] = [
  ...settingResources,
  machinesResource,
  machineResource,
  nodesResource,
  nodeResource,
  ...nodePartResources,
  eventsResource,
  ...placeResources,
  ...tagResources,
  ...nameResources,
  addressesResource,
  ...subnetResources,
  ...ipRangeResources,
  ...fabricResources,
  ...imageResources,
  ...accountResources,
  ...otherResources,
];

/** Resources whose fields every machine repeats. */
const SHOWN_IN_MACHINES = new Set(
  'zone resourcepool domain domains subnet subnets vlan vlans fabric fabrics interface'.split(' '),
);

const API_ROOT = '/MAAS/api/2.0/';
const ANONYMOUS: User = { username: 'AnonymousUser', email: '', admin: false, active: true };

export interface ApiRequest {
  readonly method: string;
  /** As sent, with query. */
  readonly target: string;
  readonly host: string;
  readonly authorization: string | undefined;
  readonly contentType: string | undefined;
  readonly cookie: string | undefined;
  readonly body: Buffer;
}

/** What the request meant, for statistics and fault filters: `machines`, `machine deploy`, ... */
export interface Routed {
  readonly reply: Reply;
  readonly route: string;
}

function splitTarget(target: string): { path: string; query: Form } {
  const relative = target.replace(/^https?:\/\/[^/]+/, '');
  const at = relative.indexOf('?');
  const raw = at < 0 ? relative : relative.slice(0, at);
  return {
    path: decodeComponent(raw.replaceAll('+', '%2B')).replace(/\/{2,}/g, '/'),
    query: at < 0 ? new Form() : parseUrlEncoded(relative.slice(at + 1)),
  };
}

/** `machine deploy` for `POST machines/<id>/?op=deploy`: known before anything else is. */
export function routeOf(request: Pick<ApiRequest, 'method' | 'target'>): string {
  const { path, query } = splitTarget(request.target);
  if (!path.startsWith(API_ROOT)) return 'outside';
  const match = findResource(RESOURCES, path.slice(API_ROOT.length));
  if (!match) return 'unknown';
  const op = match.pathOp ?? query.get('op');
  return op ? `${match.resource.name} ${op}` : match.resource.name;
}

/** The methods that a path knows, as its Allow header lists them. */
export function allowedAt(target: string): string {
  const { path } = splitTarget(target);
  const match = path.startsWith(API_ROOT) ? findResource(RESOURCES, path.slice(API_ROOT.length)) : undefined;
  return match ? allowedMethods(match.resource).join(', ') : '';
}

export class MaasApi {
  readonly #region: Region;
  readonly #site: Site;
  readonly #nonces = new Nonces();

  constructor(region: Region, site: Site) {
    this.#region = region;
    this.#site = site;
  }

  async handle(request: ApiRequest): Promise<Reply> {
    const { path, query } = splitTarget(request.target);
    if (path.includes('\0')) return nginxPage(400, '400 Bad Request', { close: true });
    const outside = outsideApi(path);
    if (outside) return outside;
    const match = findResource(RESOURCES, path.slice(API_ROOT.length));
    if (!match)
      return { ...raisedText(404, `Unknown API endpoint: ${path}.`).reply, origin: 'public-raised' };
    const { resource } = match;
    const body = parseBody(request.contentType, request.body);
    if (isReply(body)) return body;
    if (request.cookie?.includes('sessionid=') && request.method !== 'GET') return csrfPage();

    const call: Omit<Call, 'user'> = {
      region: this.#region,
      site: this.#site,
      method: request.method,
      path,
      params: match.params,
      query,
      ...body,
    };
    const op = wantedOp(match, call);
    if (resource.anonymous === 'yes')
      return withoutSession(await this.#run(resource, { ...call, user: ANONYMOUS }, op));

    const auth = authenticate(this.#region, this.#nonces, {
      method: request.method,
      url: `http://${request.host}${path}`,
      authorization: request.authorization,
      query,
      form: body.form,
    });
    if (auth.kind === 'refused') return auth.reply;
    if (auth.kind === 'anonymous') return this.#anonymous(resource, { ...call, user: ANONYMOUS }, op);
    const reply = await this.#run(resource, { ...call, user: auth.user }, op);
    if (reply.origin === 'api') auth.commit();
    if (request.method !== 'GET' && SHOWN_IN_MACHINES.has(resource.name)) this.#site.cache.forgetAll();
    return reply;
  }

  #anonymous(resource: Resource, call: Call, op: string | undefined): Promise<Reply> | Reply {
    switch (resource.anonymous) {
      case 'admin':
        return raisedText(403, 'User is not allowed access to this API.').reply;
      case 'some':
        return answer(() => {
          const handler = op === undefined ? undefined : resource.anonymousGet?.[op];
          if (!handler || call.method !== 'GET') return unrecognised(call.method, op);
          return handler(call);
        });
      case 'yes':
      case undefined:
        break;
    }
    return forbidden();
  }

  #run(resource: Resource, call: Call, op: string | undefined): Promise<Reply> | Reply {
    if (!allowedMethods(resource).some((method) => method === call.method)) return methodNotAllowed(resource);
    return answer(async () => {
      const handler = findHandler(resource, call.method, op);
      const format = call.query.get('format');
      if (format !== undefined && format !== 'json' && resource.name !== 'machines')
        return plain(400, `Invalid output format specified '${format}'.`);
      const reply = await handler(call);
      const callback = call.query.get('callback');
      return callback && reply.status === 200
        ? { ...reply, body: `${callback}(${reply.body.toString()})` }
        : reply;
    });
  }
}

const withoutSession = (reply: Reply): Reply =>
  reply.origin === 'raised' ? { ...reply, origin: 'public-raised' } : reply;

function csrfPage(): Reply {
  return {
    status: 403,
    contentType: 'text/html',
    body: '<!DOCTYPE html>\n<title>403 Forbidden</title>\n<p>CSRF verification failed. Request aborted.</p>\n',
    origin: 'raised',
  };
}
