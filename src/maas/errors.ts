/** From a failure that nobody can handle to a PcgError with a code, the wrong field and the next step. */
import { assertNever } from '../base/assert.ts';
import { PcgError } from '../base/errors.ts';
import type { ErrorCode } from '../contract/errors.ts';
import type { MaasFailure } from './failure.ts';

/** MAAS's name for a parameter -> our code, when the parameter's value is a name that MAAS does not know. */
const FIELD_CODES: Readonly<Record<string, ErrorCode>> = {
  zone: 'ZONE_UNKNOWN',
  pool: 'POOL_UNKNOWN',
  domain: 'DOMAIN_UNKNOWN',
  subnet: 'SUBNET_UNKNOWN',
  subnets: 'SUBNET_UNKNOWN',
  distro_series: 'MAAS_IMAGE_MISSING',
  hwe_kernel: 'MAAS_IMAGE_MISSING',
};

/** What was asked, for messages; `method` tells whether a lost answer can have had an effect. */
export interface Asked {
  /** E.g. `machines.deploy`. */
  readonly what: string;
  readonly method: string;
}

/** The PcgError for a failure of a call. */
export function toError(failure: MaasFailure, { what, method }: Asked): PcgError {
  switch (failure.kind) {
    case 'unsent':
      return failure.tls
        ? new PcgError('TLS_FAILED', `MAAS could not be reached over TLS (${causeCode(failure.cause)})`, {
            cause: failure.cause,
            fix: "Give the CA that signed MAAS's certificate, or correct the endpoint's scheme, host and port.",
          })
        : new PcgError('MAAS_UNREACHABLE', `MAAS cannot be reached (${causeCode(failure.cause)})`, {
            cause: failure.cause,
          });
    case 'lost':
      return method === 'GET'
        ? new PcgError(
            'MAAS_UNREACHABLE',
            `MAAS gave no usable answer to ${what} (${causeCode(failure.cause)})`,
            {
              cause: failure.cause,
            },
          )
        : new PcgError('MAAS_OUTCOME_UNKNOWN', `MAAS did not confirm ${what}`, { cause: failure.cause });
    case 'conflict':
      return new PcgError('MAAS_CONFLICT', `MAAS was busy with a conflicting change during ${what}`);
    case 'state':
      return new PcgError('MAAS_WRONG_STATE', said(what, failure.text));
    case 'rack':
      return new PcgError('MAAS_RACK_DISCONNECTED', said(what, failure.text));
    case 'unable':
      return new PcgError('MAAS_POWER_FAILED', said(what, failure.text));
    case 'busy':
      return new PcgError('MAAS_OVERLOADED', `MAAS or a proxy in front of it is too busy for ${what}`);
    case 'fault':
      return new PcgError('MAAS_OVERLOADED', said(what, failure.text));
    case 'invalid':
      return invalidError(failure.fields, what);
    case 'refused':
      return new PcgError('MAAS_BAD_REQUEST', said(what, failure.text), {
        details: { status: failure.status },
      });
    case 'unauthorized':
      return new PcgError('MAAS_UNAUTHORIZED', 'MAAS refused the API key', {
        details: failure.signed
          ? undefined
          : { hint: 'MAAS saw no OAuth header; a proxy in front of it may have removed Authorization' },
      });
    case 'forbidden':
      return new PcgError('MAAS_FORBIDDEN', said(what, failure.text || 'not permitted for this key'));
    case 'absent':
      return new PcgError('MAAS_NOT_FOUND', said(what, failure.text));
    case 'redirect':
      return new PcgError('MAAS_URL_INVALID', `MAAS redirects to ${failure.location || 'another address'}`, {
        field: 'endpoint',
        fix: 'Redirects are not followed, since they drop the signature. Give the address that MAAS redirects to.',
        details: { location: failure.location },
      });
    case 'foreign':
      return new PcgError('MAAS_PROTOCOL', said(what, failure.text));
    default:
      return assertNever(failure, 'MAAS failure');
  }
}

function invalidError(fields: Readonly<Record<string, readonly string[]>>, what: string): PcgError {
  const names = Object.keys(fields);
  const known = names.find((name) => FIELD_CODES[name] !== undefined);
  const code = (known === undefined ? undefined : FIELD_CODES[known]) ?? 'MAAS_BAD_REQUEST';
  const shown = names.map((name) => (name === '__all__' ? '' : `${name}: `) + (fields[name] ?? []).join(' '));
  const field = known ?? names.find((name) => name !== '__all__');
  return new PcgError(code, said(what, shown.join('; ')), { field, details: { fields } });
}

function said(what: string, text: string): string {
  return text === '' ? `MAAS refused ${what}` : `MAAS answered ${what} with: ${text}`;
}

function causeCode(cause: unknown): string {
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code;
  return cause instanceof Error ? cause.name : 'no answer';
}
