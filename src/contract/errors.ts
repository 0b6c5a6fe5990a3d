/**
 * The catalogue of error codes: stable names that API, CLI, page and tests share. Each says whether a
 * retry can help, whether the user can fix it, what to do next, which exit code the CLI ends with and
 * which HTTP status the API answers with. Adding is compatible; renaming is not.
 */
import { z } from 'zod';

interface ErrorEntry {
  /** Trying the same again later can succeed. */
  readonly retryable: boolean;
  /** Something the user can change (input, MAAS, network) makes it go away. */
  readonly userFixable: boolean;
  /** The default next step; the place that throws may know a better one. */
  readonly fix: string;
  /** Exit code of the CLI, see `pcg help exit-codes`. */
  readonly exit: number;
  /** Status of the HTTP API. */
  readonly http: number;
}

const entry = (
  exit: number,
  http: number,
  kind: 'user' | 'transient' | 'defect' | 'user-transient',
  fix: string,
): ErrorEntry => ({
  retryable: kind === 'transient' || kind === 'user-transient',
  userFixable: kind === 'user' || kind === 'user-transient',
  fix,
  exit,
  http,
});

export const ERROR_CODES = {
  // general
  INTERNAL: entry(
    1,
    500,
    'defect',
    'This is a defect. Send the logs of the program that answered to the maintainers.',
  ),
  INVALID_INPUT: entry(2, 400, 'user', 'Correct the named field and try again.'),
  NOT_FOUND: entry(1, 404, 'user', 'Check the name or id.'),
  CONFLICT: entry(9, 409, 'user', 'Look at the current state, then try again.'),
  CANCELLED: entry(3, 499, 'user', 'Nothing to do: it was cancelled on request.'),
  DEADLINE: entry(8, 504, 'transient', 'It is still pending. Look again later.'),
  TEMPORARY: entry(75, 503, 'transient', 'Try again in a moment.'),
  BAD_CONFIG: entry(
    78,
    400,
    'user',
    'Correct the named setting; `pcg config show` prints where each value comes from.',
  ),
  STORAGE_FAILED: entry(1, 507, 'user-transient', 'Check free space and permissions of the state directory.'),
  FORBIDDEN: entry(4, 403, 'user', 'Ask a tenant administrator for the needed role.'),
  UNAUTHENTICATED: entry(4, 401, 'user', 'Sign in again.'),
  TOO_MANY_TRIES: entry(4, 429, 'transient', 'Wait for the named time, then try again.'),
  SITE_POLICY_DENIED: entry(4, 403, 'user', "The gateway's site policy forbids this. Ask the site's owner."),

  // pairing and portal
  PAIRING_CODE_MALFORMED: entry(
    4,
    400,
    'user',
    'The code has a typing error. Copy it again from the portal.',
  ),
  PAIRING_CODE_UNKNOWN: entry(4, 404, 'user', 'Create a new pairing code in the portal.'),
  PAIRING_CODE_EXPIRED: entry(4, 410, 'user', 'Codes live 24 hours. Create a new one in the portal.'),
  PAIRING_CODE_USED: entry(
    4,
    409,
    'user',
    'The code was used by another gateway. Create a new one in the portal.',
  ),
  PAIRING_CODE_REVOKED: entry(4, 410, 'user', 'A newer code replaced this one. Use the newest code.'),
  PAIRING_PROOF_FAILED: entry(
    4,
    403,
    'user',
    'The code does not match. Check the code, the portal URL, and that nothing replaces keys in between.',
  ),
  PAIRING_TOO_MANY_TRIES: entry(
    4,
    429,
    'user',
    'The code is locked after 5 wrong proofs. Create a new one in the portal.',
  ),
  PORTAL_UNREACHABLE: entry(
    6,
    502,
    'user-transient',
    'Check portal URL, DNS, proxy and firewall; `pcg doctor` tests each step.',
  ),
  PORTAL_UNTRUSTED: entry(
    4,
    502,
    'user',
    'The portal could not prove the key pinned at pairing. Do not continue before you know why.',
  ),
  GATEWAY_REVOKED: entry(4, 403, 'user', 'The portal has revoked this gateway. Pair it again.'),
  GATEWAY_OFFLINE: entry(
    6,
    503,
    'user-transient',
    'The gateway is not connected. Look at `pcg status` on the gateway.',
  ),
  GATEWAY_BUSY: entry(9, 409, 'transient', 'The gateway is being updated; the request is queued.'),
  PROXY_AUTH_REQUIRED: entry(6, 502, 'user', 'Put the right user and password into the proxy URL.'),
  PROXY_REFUSED: entry(
    6,
    502,
    'user-transient',
    'Ask for the portal host and port 443 to be allowed on the proxy.',
  ),
  PROXY_UNREACHABLE: entry(
    6,
    502,
    'user-transient',
    'Check host and port of the proxy URL, and the route from this host to it.',
  ),
  PROXY_TIMEOUT: entry(
    6,
    504,
    'user-transient',
    'The proxy did not answer. Check its address and that it is running.',
  ),
  TLS_FAILED: entry(
    6,
    502,
    'user',
    'Add the CA of the server or of the TLS-inspecting proxy with --ca-file.',
  ),

  // MAAS
  MAAS_URL_INVALID: entry(78, 400, 'user', 'Give it like http://10.11.12.13:5240/MAAS.'),
  MAAS_KEY_INVALID: entry(
    78,
    400,
    'user',
    'A MAAS API key has three parts: consumer_key:token_key:token_secret.',
  ),
  MAAS_UNREACHABLE: entry(
    7,
    502,
    'user-transient',
    'Check the MAAS endpoint, its port (5240 or 5443) and the route to it.',
  ),
  MAAS_UNAUTHORIZED: entry(
    7,
    401,
    'user',
    'MAAS refused the API key. Create a new key in MAAS and update the cloud account.',
  ),
  MAAS_CLOCK_SKEW: entry(7, 401, 'user-transient', 'Synchronise the clocks of gateway and MAAS (NTP).'),
  MAAS_FORBIDDEN: entry(
    7,
    403,
    'user',
    'The MAAS user lacks the right for this call; see the rights report of the cloud account.',
  ),
  MAAS_BAD_REQUEST: entry(7, 400, 'user', 'MAAS refused the values; correct the named fields.'),
  MAAS_CONFLICT: entry(7, 409, 'transient', 'MAAS was busy with a conflicting change; it is retried.'),
  MAAS_WRONG_STATE: entry(
    7,
    409,
    'user-transient',
    'The machine is in another state than expected; look at it in MAAS.',
  ),
  MAAS_NOT_FOUND: entry(7, 404, 'user', 'The object is not in MAAS (any more).'),
  MAAS_OVERLOADED: entry(7, 503, 'transient', 'MAAS is slow or restarting; it is retried.'),
  MAAS_RACK_DISCONNECTED: entry(
    7,
    503,
    'user-transient',
    'No rack controller is connected to the region; restart maas-rackd.',
  ),
  MAAS_POWER_FAILED: entry(
    7,
    502,
    'user-transient',
    'The BMC did not obey; check power parameters of the machine in MAAS.',
  ),
  MAAS_IP_EXHAUSTED: entry(7, 409, 'user', 'Free addresses in the subnet or choose another one.'),
  MAAS_IMAGE_MISSING: entry(
    7,
    400,
    'user',
    'Import or upload the OS image in MAAS, or choose another one in the profile.',
  ),
  MAAS_OUTCOME_UNKNOWN: entry(
    7,
    504,
    'transient',
    'MAAS did not confirm; the state is read back before anything is repeated.',
  ),
  MAAS_PROTOCOL: entry(
    7,
    502,
    'user',
    'The address answers, but not as a MAAS region API does. Check the endpoint.',
  ),
  MAAS_VERSION_UNSUPPORTED: entry(7, 400, 'user', 'Use MAAS 3.3 to 3.7.'),

  // placement and addresses
  NOT_ENOUGH_MACHINES: entry(
    10,
    409,
    'user',
    'Add Ready machines to the pool and zones, or lower the requirements.',
  ),
  NO_SPARE_MACHINE: entry(
    10,
    409,
    'user',
    'Add a Ready machine that fits the pool, or set the pool to Contract first: it then gives a node up before it takes the next one.',
  ),
  NO_MATCHING_MACHINE: entry(
    10,
    409,
    'user',
    'Lower the requirement that rejects most machines, or add machines.',
  ),
  WRONG_MACHINE: entry(
    10,
    409,
    'transient',
    'MAAS returned a machine that does not fit; it was given back and another is tried.',
  ),
  ZONE_UNKNOWN: entry(2, 400, 'user', 'Choose a zone that exists in MAAS.'),
  POOL_UNKNOWN: entry(2, 400, 'user', 'Choose a resource pool that exists in MAAS.'),
  DOMAIN_UNKNOWN: entry(2, 400, 'user', 'Choose a domain that exists in MAAS.'),
  SUBNET_UNKNOWN: entry(2, 400, 'user', 'Choose a subnet that exists in MAAS.'),
  CIDR_OVERLAP: entry(
    2,
    400,
    'user',
    'Choose a range that overlaps no subnet of MAAS; a free one is proposed.',
  ),
  VIP_UNAVAILABLE: entry(
    10,
    409,
    'user',
    'Free an address in the subnet, or give the endpoint address yourself.',
  ),

  // machines and Kubernetes
  DEPLOY_FAILED: entry(
    1,
    502,
    'user-transient',
    "Read the machine's installation output kept with the task.",
  ),
  DEPLOY_TIMEOUT: entry(
    1,
    504,
    'user-transient',
    'The machine did not finish installing; check its console and its route to MAAS.',
  ),
  BOOTSTRAP_FAILED: entry(
    1,
    502,
    'user-transient',
    'The bootstrap script failed on the machine; its last step is in the evidence.',
  ),
  BOOTSTRAP_TIMEOUT: entry(
    1,
    504,
    'user-transient',
    'The machine runs, but Kubernetes did not come up; check registry, proxy and DNS access of the machine.',
  ),
  RELEASE_FAILED: entry(
    1,
    502,
    'user-transient',
    'Check the power parameters of the machine in MAAS, then delete again.',
  ),
  RELEASE_TIMEOUT: entry(
    1,
    504,
    'user-transient',
    'MAAS did not finish releasing; look at the machine in MAAS.',
  ),
  MACHINE_LOST: entry(1, 502, 'user-transient', 'The machine is no longer ours in MAAS; it is replaced.'),
  NODE_UNHEALTHY: entry(
    1,
    502,
    'user-transient',
    'Look at the machine: it did not come back after it was switched off and on.',
  ),
  MACHINE_CLONED: entry(
    1,
    409,
    'user',
    'Give every machine a machine-id and a product UUID of its own, then replace all but one of the nodes that share them.',
  ),
  TOO_MANY_FAILED_MACHINES: entry(
    1,
    502,
    'user',
    'Several machines failed in a row. Fix the named cause, then retry the cluster.',
  ),
  KUBE_UNREACHABLE: entry(
    1,
    502,
    'user-transient',
    'The Kubernetes API server does not answer; check endpoint address and machines.',
  ),
  KUBE_UNAUTHORIZED: entry(1, 401, 'user', "The cluster refused the gateway's certificate; check clocks."),
  KUBE_REJECTED: entry(
    1,
    422,
    'user',
    'The Kubernetes API server refused the object; correct the named field of the pack.',
  ),
  KUBE_CONFLICT: entry(9, 409, 'transient', 'Somebody else changed the object; it is retried.'),
  CNI_NOT_READY: entry(
    1,
    504,
    'user-transient',
    'The network add-on did not become ready; check image access of the nodes.',
  ),
  ADDON_NOT_READY: entry(
    1,
    504,
    'user-transient',
    'An add-on did not become ready; see its workload named in the evidence.',
  ),
  ETCD_QUORUM_AT_RISK: entry(
    9,
    409,
    'user-transient',
    'Repair the unhealthy control-plane node first; removing another member would lose quorum.',
  ),
  CERTIFICATES_EXPIRING: entry(
    1,
    409,
    'user-transient',
    'The gateway renews certificates in place once a day: see why its Job in namespace pcg-policies fails, or rotate the certificates, which replaces the control plane node by node.',
  ),
  BACKUP_TARGET_FAILED: entry(
    1,
    502,
    'user',
    'Check address, bucket and credentials of the backup target, or the space in the state directory.',
  ),
  UPGRADE_NOT_SAVED: entry(
    1,
    502,
    'user-transient',
    'Repair what kept the snapshot from being taken: the upgrade then begins by itself.',
  ),
  BACKUP_FAILED: entry(
    1,
    502,
    'user',
    'Read the named backup or restore with `velero backup describe --details` or `velero restore describe`, then run it again.',
  ),
  DRAIN_BLOCKED: entry(
    9,
    409,
    'user-transient',
    'A PodDisruptionBudget blocks eviction; scale the workload or relax the budget.',
  ),
  VERSION_SKEW: entry(2, 400, 'user', 'Upgrade one minor version at a time and never downgrade.'),
  CLUSTER_STATE_LOST: entry(
    9,
    409,
    'user',
    "Restore the gateway's state directory. If it is gone, delete the cluster: the machines that carry its stamp are released.",
  ),
  CONTROL_PLANE_LOST: entry(
    9,
    409,
    'user',
    'etcd was lost with the last machine of the control plane. Delete the cluster, create it anew and restore a backup.',
  ),
  CLUSTER_NOT_DELETABLE: entry(9, 409, 'user', 'While a cluster is being provisioned, use Abort.'),
  FORCE_DELETE_TOO_EARLY: entry(9, 409, 'user', 'Force delete opens 15 minutes after Delete.'),
  CLUSTER_NAME_TAKEN: entry(9, 409, 'user', 'Choose another name.'),
  GATEWAY_HAS_CLUSTERS: entry(9, 409, 'user', 'Delete the listed clusters first.'),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERROR_CODES;

const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]];

/** Every code as a zod enum. */
export const ErrorCodeSchema = z.enum(codes);

/** The error body of every API and of every failed task. */
export const ProblemDetailsSchema = z.object({
  code: ErrorCodeSchema,
  message: z.string().describe('What happened, in one sentence.'),
  fix: z.string().describe('What to do next.'),
  retryable: z.boolean(),
  userFixable: z.boolean(),
  field: z.string().optional().describe('Path of the offending input field.'),
  details: z.record(z.string(), z.unknown()).optional().describe('Evidence, safe to show.'),
});
export type ProblemDetails = z.infer<typeof ProblemDetailsSchema>;
