/**
 * The cluster's keys and certificates, made by the gateway: three CAs, the service-account key pair and one
 * client certificate for kube-vip. Joining control-plane nodes get the same files, so kubeadm's certificate
 * upload is not needed; workers get nothing but the CA's hash. Leaf certificates of the components are kubeadm's.
 * After a control plane exists a missing PKI is an error and never a reason to make a new one (callers' duty).
 */
import 'reflect-metadata'; // @peculiar/x509 resolves its parsers through it
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { PcgError } from '../base/errors.ts';

/** A certificate and its private key, both PEM (key: PKCS#8). */
export interface CertificatePair {
  readonly certPem: string;
  readonly keyPem: string;
}

/** Plain strings: storable as JSON. Everything private in here stays in the gateway's store. */
export interface ClusterPki {
  readonly ca: CertificatePair;
  readonly etcdCa: CertificatePair;
  readonly frontProxyCa: CertificatePair;
  /** `publicPem`: PKIX `PUBLIC KEY`; `privatePem`: PKCS#1 for RSA, SEC1 for ECDSA, as kubeadm writes them. */
  readonly serviceAccount: { readonly publicPem: string; readonly privatePem: string };
  /** Client certificate CN kube-vip without any group: its rights come from rbac.ts alone. */
  readonly kubeVip: CertificatePair;
}

export type KeyAlgorithm = 'rsa-2048' | 'rsa-3072' | 'ecdsa-p256' | 'ecdsa-p384';

const DAY_MS = 24 * 60 * 60 * 1000;
/** kubeadm's and Cluster API's validity of CAs: ten years. */
export const CA_VALIDITY_MS = 3650 * DAY_MS;
/** The gateway's own admin certificate is short and reissued at half of its life. */
export const ADMIN_VALIDITY_MS = 90 * DAY_MS;
/** Clocks of machines that were just installed may lag; certificates start to be valid this much earlier. */
const BACKDATE_MS = 5 * 60 * 1000;
/** RFC 5280 allows 20 octets; 16 random ones are unique and stay positive with the top bit cleared. */
const SERIAL_BYTES = 16;

/** All keys of a new cluster. `nowMs`: wall clock. About 0.3 s of CPU with RSA-2048. */
export async function createClusterPki(options: {
  readonly nowMs: number;
  readonly keyAlgorithm?: KeyAlgorithm | undefined;
  readonly validityMs?: number;
}): Promise<ClusterPki> {
  const algorithm = options.keyAlgorithm ?? 'rsa-2048';
  const make = (commonName: string) =>
    createCa({
      commonName,
      algorithm,
      nowMs: options.nowMs,
      validityMs: options.validityMs ?? CA_VALIDITY_MS,
    });
  // Distinct names let an error of openssl or Go tell which CA was meant.
  const [ca, etcdCa, frontProxyCa, serviceAccount] = await Promise.all([
    make('kubernetes'),
    make('etcd-ca'),
    make('front-proxy-ca'),
    generateKeys(algorithm),
  ]);
  const privateKey = createPrivateKey(await exportPkcs8(serviceAccount));
  const kubeVip = await issueClientCertificate(ca, {
    commonName: 'kube-vip',
    nowMs: options.nowMs,
    validityMs: options.validityMs ?? CA_VALIDITY_MS,
    keyAlgorithm: algorithm,
  });
  return {
    ca,
    etcdCa,
    frontProxyCa,
    serviceAccount: {
      publicPem: createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }),
      privatePem: privateKey.export({
        type: privateKey.asymmetricKeyType === 'rsa' ? 'pkcs1' : 'sec1',
        format: 'pem',
      }),
    },
    kubeVip,
  };
}

/** A client certificate signed by `ca`. It never outlives its CA. */
export async function issueClientCertificate(
  ca: CertificatePair,
  options: {
    readonly commonName: string;
    /** Kubernetes groups (O=). */
    readonly organizations?: readonly string[];
    readonly nowMs: number;
    readonly validityMs: number;
    readonly keyAlgorithm?: KeyAlgorithm;
  },
): Promise<CertificatePair> {
  return await issue(ca, options, [x509.ExtendedKeyUsage.clientAuth], undefined);
}

/** A certificate for servers that also act as clients (etcd peers and servers, tests). */
export async function issueServerCertificate(
  ca: CertificatePair,
  options: {
    readonly commonName: string;
    readonly dnsNames: readonly string[];
    readonly ipAddresses: readonly string[];
    readonly nowMs: number;
    readonly validityMs: number;
    readonly keyAlgorithm?: KeyAlgorithm;
  },
): Promise<CertificatePair> {
  const names = [
    ...options.dnsNames.map((value) => ({ type: 'dns' as const, value })),
    ...options.ipAddresses.map((value) => ({ type: 'ip' as const, value })),
  ];
  return await issue(
    ca,
    options,
    [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
    names,
  );
}

/** `sha256:` + hex of SHA-256 over the CA's SubjectPublicKeyInfo: what `kubeadm join` pins. */
export function caHash(caPem: string): string {
  const spki = readCertificate(caPem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(spki).digest('hex')}`;
}

/** Validity of the first certificate in a PEM text, milliseconds since the epoch. */
export function certificateValidity(certPem: string): { notBeforeMs: number; notAfterMs: number } {
  const certificate = readCertificate(certPem);
  return { notBeforeMs: Date.parse(certificate.validFrom), notAfterMs: Date.parse(certificate.validTo) };
}

/** True when more than half of the life is over: the time to issue a successor, long before anything breaks. */
export function isRenewalDue(certPem: string, nowMs: number): boolean {
  const { notBeforeMs, notAfterMs } = certificateValidity(certPem);
  return nowMs >= notBeforeMs + (notAfterMs - notBeforeMs) / 2;
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new PcgError('INVALID_INPUT', 'not a PEM certificate', { cause });
  }
}

/** A self-signed CA that may sign leaves only. */
export async function createCa(options: {
  commonName: string;
  algorithm: KeyAlgorithm;
  nowMs: number;
  validityMs: number;
}): Promise<CertificatePair> {
  const keys = await generateKeys(options.algorithm);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ CN: [options.commonName] }],
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(options.nowMs + options.validityMs),
    keys,
    signingAlgorithm: signatureOf(options.algorithm),
    extensions: [
      // pathLen 0: this CA signs leaves only.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature |
          x509.KeyUsageFlags.keyEncipherment |
          x509.KeyUsageFlags.keyCertSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: pem(certificate), keyPem: await exportPkcs8(keys) };
}

async function issue(
  ca: CertificatePair,
  options: {
    readonly commonName: string;
    readonly organizations?: readonly string[];
    readonly nowMs: number;
    readonly validityMs: number;
    readonly keyAlgorithm?: KeyAlgorithm;
  },
  usages: x509.ExtendedKeyUsage[],
  names: x509.JsonGeneralNames | undefined,
): Promise<CertificatePair> {
  const issuer = new x509.X509Certificate(ca.certPem);
  const signer = await importSigner(ca.keyPem);
  const keys = await generateKeys(options.keyAlgorithm ?? 'ecdsa-p256');
  const organizations = options.organizations ?? [];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    // One O attribute per group, before CN, as Go writes it.
    subject: [...organizations.map((group) => ({ O: [group] })), { CN: [options.commonName] }],
    issuer: issuer.subjectName,
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(options.nowMs + options.validityMs, issuer.notAfter.getTime())),
    publicKey: keys.publicKey,
    signingKey: signer.key,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment,
        true,
      ),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names === undefined ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return { certPem: pem(certificate), keyPem: await exportPkcs8(keys) };
}

const KEY_PARAMETERS = {
  'rsa-2048': rsa(2048),
  'rsa-3072': rsa(3072),
  'ecdsa-p256': { name: 'ECDSA', namedCurve: 'P-256' },
  'ecdsa-p384': { name: 'ECDSA', namedCurve: 'P-384' },
} as const;

function rsa(modulusLength: number) {
  return {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  } as const;
}

async function generateKeys(algorithm: KeyAlgorithm): Promise<CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(KEY_PARAMETERS[algorithm], true, [
    'sign',
    'verify',
  ])) as CryptoKeyPair;
}

function signatureOf(algorithm: KeyAlgorithm): Algorithm | EcdsaParams {
  switch (algorithm) {
    case 'rsa-2048':
    case 'rsa-3072':
      return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as Algorithm;
    case 'ecdsa-p256':
      return { name: 'ECDSA', hash: 'SHA-256' };
    case 'ecdsa-p384':
      return { name: 'ECDSA', hash: 'SHA-384' };
  }
}

/** The CA's own key decides the signature, whatever the leaf's key is. */
async function importSigner(keyPem: string): Promise<{ key: CryptoKey; algorithm: Algorithm | EcdsaParams }> {
  const node = createPrivateKey(keyPem);
  const algorithm: KeyAlgorithm =
    node.asymmetricKeyType === 'rsa'
      ? 'rsa-2048'
      : node.asymmetricKeyDetails?.namedCurve === 'secp384r1'
        ? 'ecdsa-p384'
        : 'ecdsa-p256';
  const key = await webcrypto.subtle.importKey(
    'pkcs8',
    node.export({ type: 'pkcs8', format: 'der' }),
    KEY_PARAMETERS[algorithm],
    false,
    ['sign'],
  );
  return { key: key as CryptoKey, algorithm: signatureOf(algorithm) };
}

async function exportPkcs8(keys: CryptoKeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey as webcrypto.CryptoKey);
  return x509.PemConverter.encode(der, 'PRIVATE KEY').trimEnd().concat('\n');
}

function pem(certificate: x509.X509Certificate): string {
  return certificate.toString('pem').trimEnd().concat('\n');
}

function randomSerial(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01; // positive, and never a leading zero that DER would drop
  return bytes.toString('hex');
}
