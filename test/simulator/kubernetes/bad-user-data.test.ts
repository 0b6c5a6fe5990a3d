/** A machine with wrong user-data fails like a real one: the event in MAAS carries kubeadm's or cloud-init's words. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  caHash,
  type ClusterFiles,
  initUserData,
  joinUserData,
  KubeSite,
  testAuthority,
  testPki,
  VIP,
} from '../../support/kube-site.ts';

/** Fast enough that kubeadm's five minutes of patience pass in 0.2 s. */
const SPEED = 1500;

async function initFails(
  files: Partial<ClusterFiles>,
  more: { cpuCount?: number; memoryMiB?: number } = {},
): Promise<string> {
  await using site = await KubeSite.create(SPEED);
  site.boot('cp-1', initUserData({ ...site.files, ...files }), more);
  const { description } = await site.failed('cp-1');
  expect(site.runtime.clusters()).toEqual([]);
  return description;
}

describe('kubeadm init on a simulated machine', () => {
  it.each<[string, Partial<ClusterFiles>, RegExp]>([
    [
      'an unknown field',
      { edit: (d) => Object.assign(d[0], { controlPlaneEndpont: 'x' }) },
      /strict decoding error: unknown field "controlPlaneEndpont"/,
    ],
    [
      'arguments as a map',
      { edit: (d) => Object.assign(d[0].apiServer, { extraArgs: { v: '2' } }) },
      /cannot unmarshal object into Go struct field .*extraArgs of type \[\]v1beta4.Arg/,
    ],
    [
      'an argument value that is no string',
      { edit: (d) => Object.assign(d[0].apiServer, { extraArgs: [{ name: 'v', value: 2 }] }) },
      /cannot unmarshal number into .* of type string/,
    ],
    [
      'an unknown API server flag',
      { edit: (d) => Object.assign(d[0].apiServer, { extraArgs: [{ name: 'no-such-flag', value: '1' }] }) },
      /unknown flag: --no-such-flag/,
    ],
    [
      'an unknown kubelet flag',
      { edit: (d) => d[1].nodeRegistration.kubeletExtraArgs.push({ name: 'no-such-flag', value: '1' }) },
      /kubelet-start.*unknown flag: --no-such-flag/,
    ],
    [
      'a label that a kubelet may not set',
      {
        edit: (d) =>
          d[1].nodeRegistration.kubeletExtraArgs.push({
            name: 'node-labels',
            value: 'node-role.kubernetes.io/worker=',
          }),
      },
      /unknown 'kubernetes.io' or 'k8s.io' labels/,
    ],
    [
      'a kind that kubeadm does not know',
      { edit: (d) => Object.assign(d[0], { kind: 'ClusterConfig' }) },
      /no kind "ClusterConfig" is registered/,
    ],
    [
      'a malformed version',
      { edit: (d) => Object.assign(d[0], { kubernetesVersion: 'latest-and-greatest' }) },
      /could not parse as version/,
    ],
    [
      'a pod network that is none',
      { edit: (d) => Object.assign(d[0].networking, { podSubnet: '192.168.0.0' }) },
      /networking\.podSubnet.*couldn't parse subnet/,
    ],
    [
      'a pod network that is too large for its nodes',
      { edit: (d) => Object.assign(d[0].networking, { podSubnet: '10.0.0.0/7' }) },
      /difference is greater than 16/,
    ],
    [
      'a malformed token',
      { edit: (d) => Object.assign(d[1].bootstrapTokens[0], { token: 'ABC.def' }) },
      /bootstrap token is invalid/,
    ],
    [
      'an address of another machine',
      { edit: (d) => Object.assign(d[1].localAPIEndpoint, { advertiseAddress: '10.20.0.99' }) },
      /cannot assign requested address/,
    ],
    ['no CA key', { files: { '/etc/kubernetes/pki/ca.key': undefined } }, /failure loading key for ca/],
    [
      'no service account key',
      { files: { '/etc/kubernetes/pki/sa.key': undefined } },
      /sa key pair is missing/,
    ],
    [
      'a static pod that is there already',
      { files: { '/etc/kubernetes/manifests/etcd.yaml': 'x' } },
      /\[ERROR FileAvailable--etc-kubernetes-manifests-etcd\.yaml\]/,
    ],
    [
      'no kubeadm file at all',
      { files: { '/run/kubeadm/kubeadm.yaml': undefined } },
      /neither .* exists \(exit 66\)/,
    ],
    [
      'no bootstrap script',
      { files: { '/usr/local/sbin/pcg-bootstrap': undefined } },
      /not found \(exit 127\)/,
    ],
  ])('fails with %s', async (_what, files, text) => {
    expect(await initFails(files)).toMatch(text);
  });

  it('names all failed preflight checks of a small machine', async () => {
    const text = await initFails({}, { cpuCount: 1, memoryMiB: 1024 });
    expect(text).toContain('[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2');
    expect(text).toContain('[ERROR Mem]: the system RAM (1024 MB) is less than the minimum 1700 MB');
  });

  it("fails when the CA's key belongs to another CA", async () => {
    const other = await testAuthority('kubernetes');
    expect(await initFails({ files: { '/etc/kubernetes/pki/ca.key': other.keyPem } })).toMatch(
      /private key does not match/,
    );
  });

  it('takes v1beta3 up to kubeadm 1.36 and refuses it from 1.37 on', async () => {
    const edit: ClusterFiles['edit'] = (documents) => {
      for (const document of documents) document.apiVersion = 'kubeadm.k8s.io/v1beta3';
      documents[1].nodeRegistration.kubeletExtraArgs = { 'node-ip': '__NODE_IP__' };
    };
    const refused = await initFails({ version: 'v1.37.0', edit });
    expect(refused).toMatch(/uses an old API spec: "kubeadm.k8s.io\/v1beta3"/);
    await using site = await KubeSite.create(SPEED);
    await site.firstNode('cp-1', { version: 'v1.36.1', edit });
    expect(site.runtime.machine('id-cp-1')?.failure).toBeUndefined();
  });

  it('does nothing with user-data that is no cloud-config, and says so in MAAS', async () => {
    await using site = await KubeSite.create(SPEED);
    const good = initUserData(site.files);
    site.boot('plain', good.replace('#cloud-config\n', ''));
    const event = await site.until('a warning', () => site.events.get('plain')?.[0]);
    expect(event).toMatchObject({ level: 'WARNING' });
    expect(event.description).toMatch(/Unhandled non-multipart/);
    site.boot('yaml', '#cloud-config\nwrite_files: [\n');
    expect((await site.until('a warning', () => site.events.get('yaml')?.[0])).description).toMatch(
      /Failed loading yaml blob/,
    );
    expect(site.runtime.machine('id-plain')?.phase).toBe('idle');
  });

  it('reads gzip and jinja as cloud-init does', async () => {
    await using site = await KubeSite.create(SPEED);
    const text = initUserData({
      ...site.files,
      edit: (d) => Object.assign(d[1].nodeRegistration, { name: 'cp-1' }),
    });
    const zipped = gzipSync(Buffer.from(`## template: jinja\n${text}`)).toString('latin1');
    site.boot('cp-1', zipped);
    await site.until(
      'cp-1 is a Node',
      async () => (await site.node('10.20.0.11', 'cp-1'))?.metadata.name === 'cp-1',
    );
  });
});

describe('kubeadm join on a simulated machine', () => {
  let site: KubeSite;
  let first = '';
  beforeAll(async () => {
    site = await KubeSite.create(SPEED);
    first = await site.firstNode();
  });
  afterAll(() => site[Symbol.asyncDispose]());

  const joins = async (hostname: string, role: 'worker' | 'control-plane', files: Partial<ClusterFiles>) => {
    site.boot(hostname, joinUserData({ ...site.files, ...files }, role));
    const { description } = await site.failed(hostname);
    expect(await site.node(VIP, hostname)).toBeUndefined();
    return description;
  };

  it('fails with a CA hash of another cluster', async () => {
    const other = await testAuthority('kubernetes');
    expect(await joins('w-pin', 'worker', { caHash: caHash(other.certPem) })).toMatch(
      /none of the public keys "sha256:[0-9a-f]{64}" are pinned/,
    );
  });

  it('fails with a token that the cluster does not know', async () => {
    expect(await joins('w-token', 'worker', { token: 'zzzzzz.0123456789abcdef' })).toMatch(
      /could not find a JWS signature in the cluster-info ConfigMap for token ID "zzzzzz"/,
    );
  });

  it('fails with the right token id and a wrong secret', async () => {
    expect(await joins('w-secret', 'worker', { token: 'abcdef.ffffffffffffffff' })).toMatch(
      /failed to verify JWS signature/,
    );
  });

  it('fails with an expired token, which the token cleaner has removed', async () => {
    const data = Object.fromEntries(
      Object.entries({
        'token-id': 'expire',
        'token-secret': '0123456789abcdef',
        expiration: new Date(site.clock.now() - 1000).toISOString(),
        'usage-bootstrap-authentication': 'true',
        'usage-bootstrap-signing': 'true',
        'auth-extra-groups': 'system:bootstrappers:kubeadm:default-node-token',
      }).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    );
    const path = '/api/v1/namespaces/kube-system/secrets';
    await site.request(VIP, path, {
      method: 'POST',
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        type: 'bootstrap.kubernetes.io/token',
        metadata: { name: 'bootstrap-token-expire' },
        data,
      },
    });
    await site.until(
      'the token is removed',
      async () => (await site.request(VIP, `${path}/bootstrap-token-expire`)).status === 404,
    );
    expect(await joins('w-expired', 'worker', { token: 'expire.0123456789abcdef' })).toMatch(
      /could not find a JWS signature/,
    );
  });

  it('fails when nobody answers at the endpoint', async () => {
    expect(await joins('w-nowhere', 'worker', { endpoint: '10.20.0.222:6443' })).toMatch(
      /couldn't validate the identity of the API Server: .*10\.20\.0\.222/,
    );
  });

  it('refuses the CA file on a worker', async () => {
    expect(
      await joins('w-ca', 'worker', { files: { '/etc/kubernetes/pki/ca.crt': site.pki.ca.certPem } }),
    ).toMatch(/\[ERROR FileAvailable--etc-kubernetes-pki-ca\.crt\]/);
  });

  it('refuses a control-plane node with the keys of another cluster, before it touches etcd', async () => {
    const other = await testPki();
    expect(await joins('cp-keys', 'control-plane', { pki: { ...other, ca: site.pki.ca } })).toMatch(
      /check-etcd.*unknown authority/,
    );
    expect(await joins('cp-sa', 'control-plane', { pki: { ...site.pki, sa: other.sa } })).toMatch(
      /service account key/,
    );
    expect(site.runtime.clusters()[0]?.etcd.members).toHaveLength(1);
  });

  it('refuses a kubeadm of an older minor than the cluster', async () => {
    expect(await joins('w-old', 'worker', { version: 'v1.35.4' })).toMatch(
      /kubeadm is 1\.35, the cluster is v1\.36\.1/,
    );
  });

  it('refuses the name of a Node that is Ready', async () => {
    await site.applyCni();
    await site.until(
      'cp-1 is Ready',
      () => site.runtime.clusters()[0]?.nodes.find((node) => node.name === 'cp-1')?.ready,
    );
    site.boot(
      'w-twin',
      joinUserData(
        { ...site.files, edit: (d) => Object.assign(d[0].nodeRegistration, { name: 'cp-1' }) },
        'worker',
      ),
    );
    expect((await site.failed('w-twin')).description).toMatch(
      /Node with name "cp-1" and status "Ready" already exists/,
    );
  });

  it('lets no control-plane node join while etcd has another learner', async () => {
    const learner = await site.etcd(first, '/v3/cluster/member/add', {
      peerURLs: ['https://10.20.0.90:2380'],
      isLearner: true,
    });
    expect(learner.status).toBe(200);
    site.boot('cp-2', joinUserData(site.files, 'control-plane'));
    expect((await site.failed('cp-2')).description).toMatch(/too many learner members in cluster/);
    expect((await site.etcd(first, '/v3/cluster/member/remove', { ID: learner.body.member.ID })).status).toBe(
      200,
    );

    site.boot('cp-3', joinUserData(site.files, 'control-plane'));
    await site.until('cp-3 is a Node', () => site.node(VIP, 'cp-3'));
    expect(
      site.runtime
        .clusters()[0]
        ?.etcd.members.map((member) => member.name)
        .sort(),
    ).toEqual(['cp-1', 'cp-3']);
  });
});
