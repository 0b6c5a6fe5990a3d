/** The cluster's keys from the files of a control-plane node, checked as kubeadm's certs phase checks them. */
import { ANY_MISSING_CA, KubeadmError } from './kubeadm-config.ts';
import type { ClusterKeys } from './cluster.ts';
import { isKeyPair, loadAuthority } from './pki.ts';
import type { Files } from './preflight.ts';

const PKI = '/etc/kubernetes/pki';

/** Throws KubeadmError. */
export async function readClusterKeys(files: Files): Promise<ClusterKeys> {
  const read = (name: string) => files.get(`${PKI}/${name}`)?.content;
  const authority = async (name: string) => {
    try {
      return await loadAuthority(name, read(`${name}.crt`), read(`${name}.key`));
    } catch (cause) {
      throw new KubeadmError(
        `error execution phase certs/${name.replace('/', '-')}: ${cause instanceof Error ? cause.message : cause}`,
      );
    }
  };
  const publicPem = read('sa.pub');
  const privatePem = read('sa.key');
  if (publicPem === undefined || privatePem === undefined)
    throw new KubeadmError(`error execution phase certs/sa: ${ANY_MISSING_CA}: the sa key pair is missing`);
  if (!isKeyPair(publicPem, privatePem))
    throw new KubeadmError(
      'error execution phase certs/sa: the sa.pub file is not the public half of sa.key',
    );
  return {
    ca: await authority('ca'),
    etcdCa: await authority('etcd/ca'),
    frontProxyCa: await authority('front-proxy-ca'),
    serviceAccount: { publicPem, privatePem },
  };
}
