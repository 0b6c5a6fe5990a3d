/**
 * From what an API server or the network said to a typed error. Decides by HTTP status, `reason` and causes
 * of the Status object and by error codes of the socket; message prose is only shown.
 */
import { DeadlineError } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';

/** The part of `kind: Status` that is acted on. */
export interface KubeStatus {
  readonly message: string;
  readonly reason: string;
  readonly causes: readonly { readonly reason: string; readonly field: string; readonly message: string }[];
  readonly retryAfterSeconds: number | undefined;
}

/** Longest piece of a server's text that is repeated in our messages. */
const MAX_MESSAGE_CHARS = 600;

/** Reads any body; what is no Status yields empty fields. */
export function readStatus(body: unknown): KubeStatus {
  const status = asRecord(body);
  const details = asRecord(status['details']);
  const causes = Array.isArray(details['causes']) ? details['causes'] : [];
  const retry = details['retryAfterSeconds'];
  return {
    message: asText(status['message']).slice(0, MAX_MESSAGE_CHARS),
    reason: asText(status['reason']),
    causes: causes.slice(0, 20).map((cause: unknown) => {
      const entry = asRecord(cause);
      return {
        reason: asText(entry['reason']),
        field: asText(entry['field']),
        message: asText(entry['message']),
      };
    }),
    retryAfterSeconds: typeof retry === 'number' && Number.isFinite(retry) && retry > 0 ? retry : undefined,
  };
}

/** The error for an answer that is not 2xx. `what` names the request, e.g. `GET /api/v1/nodes`. */
export function statusError(status: number, body: unknown, what: string): PcgError {
  const said = readStatus(body);
  const message = `${what}: HTTP ${status}${said.message === '' ? '' : `: ${said.message}`}`;
  const field = said.causes.find((cause) => cause.field !== '')?.field;
  const details = {
    status,
    ...(said.reason === '' ? {} : { reason: said.reason }),
    ...(said.causes.length === 0 ? {} : { causes: said.causes }),
    ...(said.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: said.retryAfterSeconds }),
  };
  if (status === 401) return new PcgError('KUBE_UNAUTHORIZED', message, { details });
  if (status === 403)
    return new PcgError('KUBE_UNAUTHORIZED', message, {
      details,
      fix: 'The credential is valid but lacks the right; check RBAC and admission of the cluster.',
    });
  if (status === 409 || status === 410) return new PcgError('KUBE_CONFLICT', message, { details });
  if (status === 404)
    return new PcgError('KUBE_REJECTED', message, {
      details,
      // A missing namespace or kind may still be on its way: a CRD or another pack creates it.
      retryable: true,
      fix: 'The namespace or kind does not exist yet; apply what defines it first.',
    });
  if (status === 429 || status >= 500) return new PcgError('KUBE_UNREACHABLE', message, { details });
  return new PcgError('KUBE_REJECTED', message, { details, field });
}

/** What went wrong below HTTP; `reason` is stable. */
export type NetworkReason =
  | 'timeout'
  | 'refused'
  | 'unreachable'
  | 'name'
  | 'tls'
  | 'proxy'
  | 'closed'
  | 'idle';

/** The error for a request that got no answer. Abort reasons other than our deadline pass through. */
export function networkError(error: unknown, what: string, signal: AbortSignal): unknown {
  if (error instanceof PcgError) return error;
  if (signal.aborted && !(error instanceof DeadlineError)) return signal.reason;
  const reason = networkReason(error);
  const tlsFix =
    'Another server answers at this address, or its certificate is not from this cluster; check the endpoint address and clocks.';
  return new PcgError('KUBE_UNREACHABLE', `${what}: ${REASON_TEXT[reason]}`, {
    cause: error,
    details: { reason },
    ...(reason === 'tls' ? { fix: tlsFix } : {}),
  });
}

const REASON_TEXT: Record<NetworkReason, string> = {
  timeout: 'no answer in time',
  refused: 'connection refused',
  unreachable: 'no route to the host',
  name: 'the name does not resolve',
  tls: 'TLS verification failed',
  proxy: 'the proxy did not open the tunnel',
  closed: 'the connection was cut',
  idle: 'the stream went silent',
};

const REASON_BY_CODE: Record<string, NetworkReason> = {
  ECONNREFUSED: 'refused',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EHOSTDOWN: 'unreachable',
  ENOTFOUND: 'name',
  EAI_AGAIN: 'name',
  ETIMEDOUT: 'timeout',
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_ABORTED: 'proxy', // undici's CONNECT answered other than 200
};

function networkReason(error: unknown): NetworkReason {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; depth += 1) {
    if (at instanceof DeadlineError) return 'timeout';
    const code = 'code' in at && typeof at.code === 'string' ? at.code : '';
    const known = REASON_BY_CODE[code];
    if (known !== undefined) return known;
    if (/^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|EPROTO)/.test(code)) return 'tls';
    at = at.cause;
  }
  return 'closed';
}

export function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

/** The text, or `otherwise` for anything else that a server may have put there. */
export function asText(value: unknown, otherwise = ''): string {
  return typeof value === 'string' ? value : otherwise;
}
