import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { renderUserData } from '../../src/cluster/user-data.ts';
import { PcgError } from '../../src/base/errors.ts';
import {
  caHash,
  certificateValidity,
  type ClusterPki,
  createClusterPki,
  isRenewalDue,
  issueClientCertificate,
} from '../../src/kube/pki.ts';
import { describeWith } from '../support/needs.ts';
import { clusterSpec, nodeInput, readCloudConfig, resolvedProfile } from '../support/node-input.ts';
import { testPki } from '../support/tls-server.ts';

const KINDS = ['init', 'join-control-plane', 'worker'] as const;

const RICH_NODES = {
  httpProxy: 'http://user:p%40ss@proxy.site:3128',
  httpsProxy: 'http://proxy.site:3128',
  noProxy: ['.corp.example', '10.0.0.0/8'],
  caCertificates: ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'],
  sshAuthorizedKeys: ['ssh-ed25519 AAAAC3Nz me@site'],
  ntpServers: ['10.20.0.2'],
  registryMirrors: {
    'registry.k8s.io': 'https://mirror.site/k8s',
    'docker.io': 'https://mirror.site/v2/hub',
  },
  imageRepository: 'mirror.site/kubernetes',
  packageMirror: 'http://apt.site/kubernetes/',
};

function yamlDocuments(text: string): Record<string, unknown>[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Record<string, unknown>);
}

function problem(run: () => unknown): PcgError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(PcgError);
    return error as PcgError;
  }
  return expect.fail('should have been refused');
}

describeWith(['cloud-init'], "cloud-init's own schema", () => {
  it.each(KINDS.flatMap((kind) => [[kind, 'plain'] as const, [kind, 'everything set'] as const]))(
    'accepts the user-data of a %s node, %s',
    async (kind, variant) => {
      const spec = variant === 'plain' ? clusterSpec() : clusterSpec({ nodes: RICH_NODES });
      const text = renderUserData(nodeInput(kind, await testPki(), { spec }));
      const directory = mkdtempSync(join(tmpdir(), 'user-data-'));
      try {
        const file = join(directory, 'user-data');
        writeFileSync(file, text);
        const checked = spawnSync('cloud-init', ['schema', '-c', file], { encoding: 'utf8' });
        expect(checked.stdout + checked.stderr).toContain('Valid');
        expect(checked.status).toBe(0);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  );
});

describe('user-data', () => {
  it('is a cloud-config without a template header whose last command is the bootstrap script', async () => {
    for (const kind of KINDS) {
      const text = renderUserData(nodeInput(kind, await testPki()));
      expect(text.startsWith('#cloud-config\n')).toBe(true);
      const { runcmd, files } = readCloudConfig(text);
      expect(runcmd.at(-1)).toEqual(['/usr/local/sbin/pcg-bootstrap']);
      expect(files.get('/usr/local/sbin/pcg-bootstrap')).toMatchObject({
        permissions: '0700',
        owner: 'root:root',
      });
    }
  });

  it('gives control-plane nodes the whole PKI with tight modes', async () => {
    const pki = await testPki();
    for (const kind of ['init', 'join-control-plane'] as const) {
      const { files } = readCloudConfig(renderUserData(nodeInput(kind, pki)));
      const modes = [...files].filter(([path]) => path.startsWith('/etc/kubernetes/pki/'));
      expect(Object.fromEntries(modes.map(([path, file]) => [path.slice(20), file.permissions]))).toEqual({
        'ca.crt': '0640',
        'ca.key': '0600',
        'etcd/ca.crt': '0640',
        'etcd/ca.key': '0600',
        'front-proxy-ca.crt': '0640',
        'front-proxy-ca.key': '0600',
        'sa.pub': '0640',
        'sa.key': '0600',
      });
      expect(files.get('/etc/kubernetes/pki/ca.crt')?.content).toBe(pki.ca.certPem);
      expect(files.get('/etc/kubernetes/pki/etcd/ca.key')?.content).toBe(pki.etcdCa.keyPem);
    }
  });

  it('gives workers a token and the CA hash, and nothing private or admin-like', async () => {
    const pki = await testPki();
    const { files, raw } = readCloudConfig(renderUserData(nodeInput('worker', pki, { pki })));
    const everything = JSON.stringify([...files.values()].map((file) => file.content)) + JSON.stringify(raw);
    expect([...files.keys()].filter((path) => path.startsWith('/etc/kubernetes'))).toEqual([]);
    expect(everything).not.toContain('PRIVATE KEY');
    expect(everything).not.toContain('BEGIN CERTIFICATE');
    const [join] = yamlDocuments(files.get('/run/kubeadm/kubeadm-join-config.yaml')?.content ?? '');
    expect(join).toMatchObject({
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'JoinConfiguration',
      discovery: {
        bootstrapToken: {
          apiServerEndpoint: '10.20.0.200:6443',
          token: 'abcdef.0123456789abcdef',
          caCertHashes: [caHash(pki.ca.certPem)],
        },
      },
    });
    expect(join).not.toHaveProperty('controlPlane');
  });

  it('configures init with the endpoint, networks, identity and a placeholder for the unknown address', async () => {
    const { files } = readCloudConfig(renderUserData(nodeInput('init', await testPki())));
    const [cluster, init, kubelet, proxy] = yamlDocuments(
      files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '',
    );
    expect(cluster).toMatchObject({
      kind: 'ClusterConfiguration',
      clusterName: 'demo',
      kubernetesVersion: 'v1.36.1',
      controlPlaneEndpoint: '10.20.0.200:6443',
      networking: { podSubnet: '192.168.0.0/16', serviceSubnet: '10.96.0.0/12', dnsDomain: 'cluster.local' },
      apiServer: { certSANs: ['10.20.0.200', 'localhost', '127.0.0.1'] },
    });
    expect(init).toMatchObject({
      kind: 'InitConfiguration',
      localAPIEndpoint: { advertiseAddress: '__NODE_IP__', bindPort: 6443 },
      nodeRegistration: {
        name: 'calm-otter',
        taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }],
        kubeletExtraArgs: expect.arrayContaining([
          { name: 'provider-id', value: 'maas:///zone-a/x4ycgr' },
          { name: 'node-ip', value: '__NODE_IP__' },
        ]),
      },
    });
    expect(kubelet).toMatchObject({ kind: 'KubeletConfiguration', cgroupDriver: 'systemd' });
    expect(proxy).toMatchObject({ kind: 'KubeProxyConfiguration' });
  });

  it('gives every node the kernel settings that containers need, and kubeadm patience for bare metal', async () => {
    const minutes = (text: string) => {
      const [, hours = '0', mins = '0'] = /^(?:(\d+)h)?(?:(\d+)m)?0s$/.exec(text) ?? [];
      return Number(hours) * 60 + Number(mins);
    };
    for (const kind of KINDS) {
      const { files } = readCloudConfig(renderUserData(nodeInput(kind, await testPki())));
      expect(files.get('/etc/modules-load.d/kubernetes.conf')?.content).toBe('overlay\nbr_netfilter\n');
      const sysctl = files.get('/etc/sysctl.d/99-kubernetes.conf')?.content ?? '';
      for (const key of ['net.ipv4.ip_forward', 'net.bridge.bridge-nf-call-iptables', 'kernel.panic_on_oops'])
        expect(sysctl).toMatch(new RegExp(`^${key} = 1$`, 'm'));
      const upgrades = [...files.values()].find(({ content }) =>
        content.includes('Package-Blacklist'),
      )?.content;
      for (const name of ['kubelet', 'kubeadm', 'kubectl', 'containerd'])
        expect(upgrades).toContain(`"${name}"`);
      expect(upgrades).toContain('Automatic-Reboot "false"');
      const path = kind === 'init' ? '/run/kubeadm/kubeadm.yaml' : '/run/kubeadm/kubeadm-join-config.yaml';
      const holder = yamlDocuments(files.get(path)?.content ?? '').find((one) => 'timeouts' in one);
      const { controlPlaneComponentHealthCheck, tlsBootstrap, discovery } = (holder?.['timeouts'] ??
        {}) as Record<string, string>;
      // kubeadm's own are 4 and 5 minutes; a machine waits for its turn to join in its discovery.
      expect(minutes(controlPlaneComponentHealthCheck ?? '')).toBeGreaterThanOrEqual(10);
      expect(minutes(tlsBootstrap ?? '')).toBeGreaterThanOrEqual(10);
      expect(minutes(discovery ?? '')).toBeGreaterThanOrEqual(60);
    }
  });

  it('taints by pool: none where workloads are allowed on the control plane', async () => {
    const pools = [
      { role: 'control-plane' as const, name: 'cp', size: 1 as const, allowWorkers: true },
      {
        role: 'worker' as const,
        name: 'workers',
        size: 1,
        taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' as const }],
      },
    ];
    const spec = clusterSpec({ pools });
    const taints = async (kind: (typeof KINDS)[number], path: string) => {
      const { files } = readCloudConfig(renderUserData(nodeInput(kind, await testPki(), { spec })));
      const documents = yamlDocuments(files.get(path)?.content ?? '');
      const holder = documents.find((document) => 'nodeRegistration' in document);
      return (holder?.['nodeRegistration'] as { taints: unknown } | undefined)?.taints;
    };
    expect(await taints('init', '/run/kubeadm/kubeadm.yaml')).toEqual([]);
    expect(await taints('worker', '/run/kubeadm/kubeadm-join-config.yaml')).toEqual([
      { key: 'gpu', value: 'yes', effect: 'NoSchedule' },
    ]);
  });

  it('asks for the local kubelet mode only where it is not built in', async () => {
    const pki = await testPki();
    const gates = (kubernetesVersion: string) => {
      const profile = resolvedProfile();
      const { files } = readCloudConfig(
        renderUserData(
          nodeInput('init', pki, {
            profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion } },
          }),
        ),
      );
      return yamlDocuments(files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '')[0]?.['featureGates'];
    };
    expect(gates('v1.35.3')).toEqual({ ControlPlaneKubeletLocalMode: true });
    expect(gates('v1.36.1')).toBeUndefined();
    expect(problem(() => gates('v1.34.0')).field).toBe('profile.kubernetes.kubernetesVersion');
    expect(problem(() => gates('v1.38.0')).code).toBe('INVALID_INPUT');
  });

  it('runs kube-vip with a certificate that belongs to no group and reaches only the local API server', async () => {
    const pki = await testPki();
    const { files } = readCloudConfig(renderUserData(nodeInput('join-control-plane', pki)));
    const pod = parse(files.get('/etc/kubernetes/manifests/kube-vip.yaml')?.content ?? '');
    const environment = Object.fromEntries(
      pod.spec.containers[0].env.map((entry: { name: string; value?: string }) => [entry.name, entry.value]),
    );
    expect(environment).toMatchObject({
      address: '10.20.0.200',
      port: '6443',
      cp_enable: 'true',
      vip_arp: 'true',
    });
    expect(pod.spec.volumes[0].hostPath.path).toBe('/etc/kubernetes/kube-vip.conf');
    const config = parse(files.get('/etc/kubernetes/kube-vip.conf')?.content ?? '');
    expect(config.clusters[0].cluster.server).toBe('https://127.0.0.1:6443');
    const pem = Buffer.from(config.users[0].user['client-certificate-data'], 'base64').toString('utf8');
    const certificate = new X509Certificate(pem);
    expect(certificate.subject).toBe('CN=kube-vip');
    expect(certificate.verify(new X509Certificate(pki.ca.certPem).publicKey)).toBe(true);
  });

  it('leaves kube-vip out when the endpoint is not ours to hold', async () => {
    const spec = clusterSpec({ network: { endpoint: { kind: 'external', host: 'lb.site', port: 8443 } } });
    const endpoint = { host: 'lb.site', port: 8443, vip: false };
    const { files } = readCloudConfig(renderUserData(nodeInput('init', await testPki(), { spec, endpoint })));
    expect([...files.keys()].filter((path) => path.includes('kube-vip'))).toEqual([]);
    const [cluster, init] = yamlDocuments(files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '');
    expect(cluster).toMatchObject({ controlPlaneEndpoint: 'lb.site:8443' });
    expect(init).toMatchObject({ localAPIEndpoint: { bindPort: 6443 } });
  });

  it('sets the proxy for containerd, apt and shells, and keeps everything of the cluster away from it', async () => {
    const spec = clusterSpec({ nodes: RICH_NODES, domain: 'dc1.example' });
    const { files } = readCloudConfig(renderUserData(nodeInput('worker', await testPki(), { spec })));
    const dropIn = files.get('/etc/systemd/system/containerd.service.d/http-proxy.conf')?.content ?? '';
    expect(dropIn).toContain('Environment="HTTP_PROXY=http://user:p%%40ss@proxy.site:3128"'); // % doubled for systemd
    expect(files.get('/etc/environment')).toMatchObject({ append: true });
    const noProxy =
      /NO_PROXY='([^']*)'/.exec(files.get('/etc/pcg/proxy.env')?.content ?? '')?.[1]?.split(',') ?? [];
    expect(noProxy).toEqual(
      expect.arrayContaining([
        'localhost',
        '127.0.0.1',
        '::1',
        '169.254.169.254',
        '__NODE_IP__',
        '__NODE_NETWORK__',
        '192.168.0.0/16',
        '10.96.0.0/12',
        '10.20.0.0/24',
        '10.20.0.200',
        '.svc',
        '.svc.cluster.local',
        '.cluster.local',
        '.dc1.example',
        '10.20.0.2',
        'mirror.site',
        'apt.site',
        '.corp.example',
        '10.0.0.0/8',
      ]),
    );
    expect(new Set(noProxy).size).toBe(noProxy.length);
    const apt = files.get('/etc/apt/apt.conf.d/95proxy')?.content ?? '';
    expect(apt).toContain('Acquire::http::Proxy "http://user:p%40ss@proxy.site:3128";');
    expect(apt).toContain('Acquire::http::Proxy::apt.site "DIRECT";');
    const plain = readCloudConfig(renderUserData(nodeInput('worker', await testPki())));
    expect([...plain.files.keys()].filter((path) => path.includes('proxy'))).toEqual([]);
  });

  it('points containerd and kubeadm at mirrors, the site first and the cluster over it', async () => {
    const site = {
      imageRepository: 'site.example/k8s',
      packageMirror: 'http://site.apt',
      ntpServers: ['1.1.1.1'],
    };
    const spec = clusterSpec({ nodes: RICH_NODES });
    const pki = await testPki();
    const own = readCloudConfig(renderUserData(nodeInput('init', pki, { spec, site })));
    expect(own.files.get('/etc/containerd/certs.d/registry.k8s.io/hosts.toml')?.content).toBe(
      'server = "https://registry.k8s.io"\n\n[host."https://mirror.site/k8s/v2"]\n  capabilities = ["pull", "resolve"]\n  override_path = true\n',
    );
    expect(own.files.get('/etc/containerd/certs.d/docker.io/hosts.toml')?.content).toContain(
      '[host."https://mirror.site/v2/hub"]',
    );
    expect(own.files.get('/etc/pcg/bootstrap.env')?.content).toContain(
      "PCG_PACKAGE_REPOSITORY='http://apt.site/kubernetes/core:/stable:/v1.36/deb'\n",
    );
    expect(yamlDocuments(own.files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '')[0]).toMatchObject({
      imageRepository: 'mirror.site/kubernetes',
    });
    expect(own.raw['ntp']).toEqual({ enabled: true, servers: ['10.20.0.2'] });
    const inherited = readCloudConfig(renderUserData(nodeInput('init', pki, { site })));
    expect(yamlDocuments(inherited.files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '')[0]).toMatchObject({
      imageRepository: 'site.example/k8s',
    });
  });

  it('refuses input that contradicts itself or would break out of a file', async () => {
    const pki = await testPki();
    const { pki: _, ...withoutPki } = nodeInput('init', pki);
    expect(problem(() => renderUserData(withoutPki)).field).toBe('pki');
    const node = nodeInput('worker', pki).node;
    const cases: [string, Parameters<typeof nodeInput>[2]][] = [
      ['caHash', { caHash: 'sha256:xyz' }],
      ['token', { token: { id: 'abcdef', secret: "x'; reboot #----" } }],
      ['node.hostname', { node: { ...node, hostname: 'a b' } }],
      ['node.role', { node: { ...node, role: 'control-plane' } }],
      ['spec.network.endpoint', { endpoint: { host: '$(reboot)', port: 6443, vip: true } }],
      [
        'spec.nodes.registryMirrors.../../etc',
        { spec: clusterSpec({ nodes: { registryMirrors: { '../../etc': 'https://x.y' } } }) },
      ],
    ];
    for (const [field, changes] of cases)
      expect(problem(() => renderUserData(nodeInput('worker', pki, changes))).field).toBe(field);
  });

  it('lets only known arguments with sane values through to the API server and the kubelet', async () => {
    const pki = await testPki();
    const render = (kubernetes: Partial<ReturnType<typeof resolvedProfile>['kubernetes']>) => {
      const profile = resolvedProfile();
      return renderUserData(
        nodeInput('init', pki, {
          profile: { ...profile, kubernetes: { ...profile.kubernetes, ...kubernetes } },
        }),
      );
    };
    const { files } = readCloudConfig(
      render({ apiServerArgs: { 'event-ttl': '2h' }, kubeletArgs: { 'max-pods': '200' } }),
    );
    const text = files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '';
    expect(yamlDocuments(text)[0]).toMatchObject({
      apiServer: { extraArgs: expect.arrayContaining([{ name: 'event-ttl', value: '2h' }]) },
    });
    expect(text).toContain('max-pods');
    for (const name of ['client-ca-file', 'etcd-servers', 'constructor', '--event-ttl'])
      expect(problem(() => render({ apiServerArgs: { [name]: 'x' } })).field).toBe(
        `profile.kubernetes.apiServerArgs.${name}`,
      );
    expect(problem(() => render({ kubeletArgs: { 'max-pods': '1; reboot' } })).code).toBe('INVALID_INPUT');
  });

  it('makes smaller node ranges in a small pod network and refuses one that is too small', async () => {
    const pki = await testPki();
    const mask = (podCidr: string, workers: number) => {
      const spec = clusterSpec({
        network: { podCidr },
        pools: [
          { role: 'control-plane', name: 'cp', size: 3 },
          { role: 'worker', name: 'workers', size: workers },
        ],
      });
      const { files } = readCloudConfig(renderUserData(nodeInput('init', pki, { spec })));
      const cluster = yamlDocuments(files.get('/run/kubeadm/kubeadm.yaml')?.content ?? '')[0];
      const manager = cluster?.['controllerManager'] as { extraArgs: { value: string }[] } | undefined;
      return manager?.extraArgs[0]?.value;
    };
    expect(mask('192.168.0.0/16', 100)).toBeUndefined();
    expect(mask('10.50.0.0/20', 10)).toBe('25');
    expect(mask('10.50.0.0/22', 10)).toBe('27');
    expect(problem(() => mask('10.50.0.0/24', 10)).field).toBe('spec.network.podCidr');
    expect(problem(() => mask('10.0.0.0/7', 10)).field).toBe('spec.network.podCidr');
  });
});

describeWith(['openssl'], "the cluster's keys", () => {
  const openssl = (args: string[], input?: string) =>
    execFileSync('openssl', args, {
      encoding: 'utf8',
      ...(input === undefined ? {} : { input }),
      stdio: 'pipe',
    });

  it.each(['rsa-2048', 'ecdsa-p256', 'ecdsa-p384'] as const)(
    'are ones that openssl agrees with (%s): chain, CA hash, key pairs',
    async (keyAlgorithm) => {
      const pki: ClusterPki = await createClusterPki({ nowMs: Date.now(), keyAlgorithm });
      const directory = mkdtempSync(join(tmpdir(), 'pki-'));
      try {
        const file = (name: string, content: string) => {
          writeFileSync(join(directory, name), content);
          return join(directory, name);
        };
        const ca = file('ca.pem', pki.ca.certPem);
        expect(
          openssl(['verify', '-purpose', 'sslclient', '-CAfile', ca, file('vip.pem', pki.kubeVip.certPem)]),
        ).toContain('OK');
        expect(openssl(['verify', '-CAfile', ca, ca])).toContain('OK');
        const key = openssl(['x509', '-in', ca, '-noout', '-pubkey']);
        const der = execFileSync('openssl', ['pkey', '-pubin', '-outform', 'der'], { input: key });
        const digest = execFileSync('openssl', ['dgst', '-sha256', '-r'], { input: der, encoding: 'utf8' });
        expect(caHash(pki.ca.certPem)).toBe(`sha256:${digest.split(' ')[0]}`);
        for (const pair of [pki.ca, pki.etcdCa, pki.frontProxyCa, pki.kubeVip])
          expect(openssl(['pkey', '-pubout'], pair.keyPem)).toBe(
            openssl(['x509', '-noout', '-pubkey'], pair.certPem),
          );
        expect(openssl(['pkey', '-pubout'], pki.serviceAccount.privatePem)).toBe(
          pki.serviceAccount.publicPem,
        );
        const text = openssl(['x509', '-in', ca, '-noout', '-text']);
        expect(text).toContain('CA:TRUE, pathlen:0');
        expect(text).toMatch(/Digital Signature, Key Encipherment, Certificate Sign/);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  );

  it('sign a client certificate with all its groups and never beyond the life of the CA', async () => {
    const nowMs = Date.now();
    const pki = await createClusterPki({ nowMs, keyAlgorithm: 'ecdsa-p256', validityMs: 3_600_000 });
    const pair = await issueClientCertificate(pki.ca, {
      commonName: 'kubernetes-admin',
      organizations: ['system:masters', 'b, O=c'],
      nowMs,
      validityMs: 86_400_000,
    });
    expect(openssl(['x509', '-noout', '-subject', '-nameopt', 'RFC2253'], pair.certPem).trim()).toBe(
      'subject=CN=kubernetes-admin,O=b\\, O=c,O=system:masters',
    );
    const { notBeforeMs, notAfterMs } = certificateValidity(pair.certPem);
    expect(notAfterMs).toBe(certificateValidity(pki.ca.certPem).notAfterMs);
    expect(isRenewalDue(pair.certPem, notBeforeMs + 60_000)).toBe(false);
    expect(isRenewalDue(pair.certPem, notAfterMs - 60_000)).toBe(true);
  });
});
