/**
 * Certificates as kubeadm and the controller-manager make them, from the CA files that lie on the node.
 * Nothing is invented: without a usable CA certificate and its own key there is no leaf.
 */
import 'reflect-metadata'; // @peculiar/x509 resolves its parsers through it
import { X509Certificate, createHash, createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto as Crypto);

export interface KeyPairPem {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface Authority {
  readonly certPem: string;
  readonly certificate: x509.X509Certificate;
  readonly key: CryptoKey;
  /** `sha256:<hex>` over the public key, as kubeadm's --discovery-token-ca-cert-hash. */
  readonly hash: string;
}

/** kubeadm's leafs live one year. */
const LEAF_MS = 365 * 24 * 3600 * 1000;
/** kubeadm backdates leafs by five minutes against clock skew. */
const SKEW_MS = 5 * 60 * 1000;
const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** `sha256:<hex>` of a certificate's SubjectPublicKeyInfo. */
export function publicKeyHash(certPem: string): string {
  const spki = new X509Certificate(certPem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(spki).digest('hex')}`;
}

/** Throws an Error with kubeadm's words when the pair cannot be used. */
export async function loadAuthority(
  name: string,
  certPem: string | undefined,
  keyPem: string | undefined,
): Promise<Authority> {
  if (certPem === undefined)
    throw new Error(`failure loading certificate for ${name}: the ${name}.crt file is missing`);
  if (keyPem === undefined)
    throw new Error(`failure loading key for ${name}: couldn't load the private key file ${name}.key`);
  let parsed: X509Certificate;
  let key: ReturnType<typeof createPrivateKey>;
  try {
    parsed = new X509Certificate(certPem);
    key = createPrivateKey(keyPem);
  } catch (cause) {
    throw new Error(
      `failure loading ${name} certificate: data does not contain any valid RSA or ECDSA certificates`,
      { cause },
    );
  }
  if (!parsed.ca) throw new Error(`certificate ${name} is not a CA`);
  if (!parsed.checkPrivateKey(key))
    throw new Error(
      `failure loading ${name} certificate: the private key does not match the public key of the certificate`,
    );
  const der = key.export({ type: 'pkcs8', format: 'der' });
  const curve = key.asymmetricKeyDetails?.namedCurve;
  const algorithm =
    key.asymmetricKeyType === 'ec'
      ? {
          name: 'ECDSA',
          namedCurve: curve === 'secp384r1' ? 'P-384' : 'P-256',
          hash: curve === 'secp384r1' ? 'SHA-384' : 'SHA-256',
        }
      : { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const cryptoKey = await webcrypto.subtle.importKey('pkcs8', new Uint8Array(der), algorithm, false, [
    'sign',
  ]);
  return {
    certPem,
    certificate: new x509.X509Certificate(certPem),
    key: cryptoKey as CryptoKey,
    hash: publicKeyHash(certPem),
  };
}

export interface LeafRequest {
  readonly commonName: string;
  readonly organizations?: readonly string[];
  readonly sans?: readonly string[];
  readonly server?: boolean;
  readonly client?: boolean;
  readonly nowMs: number;
  /** Milliseconds; kubeadm's year unless said otherwise. */
  readonly lifeMs?: number | undefined;
}

const isIp = (text: string) => /^\d+\.\d+\.\d+\.\d+$/.test(text) || text.includes(':');

function subjectOf(commonName: string, organizations: readonly string[] = []): x509.Name {
  return new x509.Name([...organizations.map((name) => ({ O: [name] })), { CN: [commonName] }]);
}

async function sign(authority: Authority, publicKey: CryptoKey, request: LeafRequest): Promise<string> {
  const usages = [
    ...(request.server ? [x509.ExtendedKeyUsage.serverAuth] : []),
    ...(request.client ? [x509.ExtendedKeyUsage.clientAuth] : []),
  ];
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(
      x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment,
      true,
    ),
    new x509.ExtendedKeyUsageExtension(usages),
  ];
  if (request.sans?.length)
    extensions.push(
      new x509.SubjectAlternativeNameExtension(
        [...new Set(request.sans)].map(
          (san): x509.JsonGeneralName => ({ type: isIp(san) ? 'ip' : 'dns', value: san }),
        ),
      ),
    );
  const serial = webcrypto.getRandomValues(new Uint8Array(8));
  serial[0] = (serial[0] ?? 1) & 0x7f;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: Buffer.from(serial).toString('hex'),
    subject: subjectOf(request.commonName, request.organizations).toJSON(),
    issuer: authority.certificate.subjectName.toJSON(),
    notBefore: new Date(request.nowMs - SKEW_MS),
    notAfter: new Date(request.nowMs + (request.lifeMs ?? LEAF_MS)),
    publicKey,
    signingKey: authority.key,
    signingAlgorithm: authority.key.algorithm as Algorithm,
    extensions,
  });
  return `${certificate.toString('pem')}\n`;
}

export async function issueLeaf(authority: Authority, request: LeafRequest): Promise<KeyPairPem> {
  const keys = (await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])) as CryptoKeyPair;
  const certPem = await sign(authority, keys.publicKey, request);
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const keyPem = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
  return { certPem, keyPem };
}

/** A key and a certificate signing request (PEM) for it, as a kubelet makes them. */
export async function createRequest(
  commonName: string,
  organizations: readonly string[],
): Promise<{ csrPem: string; keyPem: string }> {
  const keys = (await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])) as CryptoKeyPair;
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: subjectOf(commonName, organizations).toJSON(),
    keys,
    signingAlgorithm: P256,
  });
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const keyPem = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
  return { csrPem: request.toString('pem'), keyPem };
}

/** Subject of a PEM request; undefined when it cannot be read. */
export function readRequest(csrPem: string): { commonName: string; organizations: string[] } | undefined {
  try {
    const { subjectName } = new x509.Pkcs10CertificateRequest(csrPem);
    return { commonName: subjectName.getField('CN')[0] ?? '', organizations: subjectName.getField('O') };
  } catch {
    return undefined;
  }
}

/** Signs a request as the controller-manager does for kubernetes.io/kube-apiserver-client-kubelet. */
export async function signRequest(
  authority: Authority,
  csrPem: string,
  nowMs: number,
  usages: { client?: boolean; server?: boolean },
): Promise<string> {
  const request = new x509.Pkcs10CertificateRequest(csrPem);
  if (!(await request.verify())) throw new Error('the signature of the request is wrong');
  const { subjectName } = request;
  const publicKey = await request.publicKey.export();
  return sign(authority, publicKey, {
    commonName: subjectName.getField('CN')[0] ?? '',
    organizations: subjectName.getField('O'),
    nowMs,
    ...usages,
  });
}

/** The same key pair in two files? */
export function isKeyPair(publicPem: string, privatePem: string): boolean {
  try {
    const der = (pem: string) =>
      createPublicKey(pem).export({ type: 'spki', format: 'der' }).toString('base64');
    return der(publicPem) === der(privatePem);
  } catch {
    return false;
  }
}
