/**
 * When the first certificate of a cluster ends. Leaf certificates of kubeadm live a year and are seen only in what
 * the servers show; the CAs and kube-vip's certificate are the gateway's own. Rotation replaces the control plane.
 */
import { X509Certificate } from 'node:crypto';
import { describeError } from '../../base/errors.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { API_PORT, apiHosts } from '../observe.ts';

const ETCD_PORT = 2379;

export async function checkCertificates(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { pki } = context.record();
  if (!pki) return DONE;
  const { target } = context.kube();
  const { certPem: _cert, keyPem: _key, ...bare } = target;
  const ends: number[] = [];
  for (const host of apiHosts(context.record(), context.observed.machines)) {
    const servers = [
      { ...target, server: `https://${host}:${API_PORT}` },
      { ...bare, server: `https://${host}:${ETCD_PORT}`, caPem: pki.etcdCa.certPem },
    ];
    for (const server of servers) {
      try {
        ends.push(await context.certificateExpiry(server, signal));
      } catch (error) {
        signal.throwIfAborted();
        // A node that is away shows nothing; the next look asks again.
        context.log.debug({ server: server.server, error: describeError(error) }, 'no certificate was shown');
      }
    }
  }
  const own = [pki.kubeVip, pki.ca, pki.etcdCa, pki.frontProxyCa].map(({ certPem }) =>
    Date.parse(new X509Certificate(certPem).validTo),
  );
  const now = context.clock.now();
  await context.commit((record) => ({
    ...record,
    certificatesCheckedAt: now,
    certificatesExpireAt: Math.min(...ends, ...own),
  }));
  return DONE;
}
