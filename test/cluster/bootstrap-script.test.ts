import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { BOOTSTRAP_EXIT_CODES, BOOTSTRAP_SCRIPT } from '../../src/cluster/bootstrap-script.ts';
import { type NodeInput, renderUserData } from '../../src/cluster/user-data.ts';
import { createBootstrapRoot, describeIsolated } from '../support/bootstrap-root.ts';
import { describeWith } from '../support/needs.ts';
import { clusterSpec, nodeInput, resolvedProfile } from '../support/node-input.ts';
import { testPki } from '../support/tls-server.ts';

async function userData(kind: NodeInput['kind'], changes: Partial<NodeInput> = {}): Promise<string> {
  return renderUserData(nodeInput(kind, await testPki(), changes));
}

function prebaked() {
  const profile = resolvedProfile();
  return {
    ...profile,
    os: { ...profile.os, image: 'custom/u-2404-0-k-1361-0', variant: 'prebaked' as const },
  };
}

describeWith(['bash', 'shellcheck'], 'the text of the bootstrap script', () => {
  it('is clean for bash and shellcheck', () => {
    expect(spawnSync('bash', ['-n'], { input: BOOTSTRAP_SCRIPT, encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
    // SC2317: functions that are called through retry and trap look unreachable to shellcheck.
    const checked = spawnSync('shellcheck', ['-e', 'SC2317', '-'], {
      input: BOOTSTRAP_SCRIPT,
      encoding: 'utf8',
    });
    expect(checked.stdout).toBe('');
    expect(checked.status).toBe(0);
  });
});

describeIsolated('the bootstrap script on a machine', () => {
  it('installs a stock image, fills in its address, and runs kubeadm init', async () => {
    await using machine = await createBootstrapRoot(await userData('init'));
    const { code, output } = machine.run();
    expect(output).toContain('calm-otter is a node of demo');
    expect(code).toBe(0);
    expect(machine.calls('kubeadm init')).toEqual([
      'kubeadm init --config /run/kubeadm/kubeadm.yaml --skip-token-print',
    ]);
    const config = machine.read('/run/kubeadm/kubeadm.yaml');
    expect(config).toContain('advertiseAddress: 10.20.0.11');
    expect(config).not.toContain('__NODE_');
    expect(machine.read('/etc/kubernetes/manifests/kube-vip.yaml')).toContain('value: enp1s0');
    expect(machine.read('/etc/fstab')).toContain('#/swap.img none swap');
    expect(machine.read('/etc/fstab')).toContain('UUID=1 / ext4');
    expect(machine.calls('apt-get').at(-1)).toContain('kubelet=1.36.1-* kubeadm=1.36.1-* kubectl=1.36.1-*');
    expect(machine.calls('apt-mark')).toEqual(['apt-mark hold kubelet kubeadm kubectl containerd']);
    expect(machine.read('/etc/apt/sources.list.d/kubernetes.sources')).toBe(
      'Types: deb\nURIs: https://pkgs.k8s.io/core:/stable:/v1.36/deb/\nSuites: /\nSigned-By: /etc/apt/keyrings/kubernetes.asc\n',
    );
    expect(machine.calls('swapoff')).toEqual(['swapoff -a']);
    expect(machine.calls('modprobe')).toEqual(['modprobe overlay', 'modprobe br_netfilter']);
    expect(machine.calls('kubectl').join()).toContain('/etc/kubernetes/super-admin.conf');
    expect(machine.read('/run/cluster-api/bootstrap-success.complete')).toBe('success\n');
    expect(JSON.parse(machine.read('/var/lib/pcg/bootstrap-result.json'))).toMatchObject({
      result: 'ok',
      exit: 0,
    });
    expect(machine.read('/var/log/pcg-bootstrap.log')).toContain('step kubeadm-init');
    expect(machine.read('/var/log/pcg-bootstrap.log')).not.toContain('0123456789abcdef');
  });

  it.each(['v2', 'v3'] as const)('configures a containerd with a %s configuration', async (containerd) => {
    await using machine = await createBootstrapRoot(await userData('worker'), { containerd });
    expect(machine.run().code).toBe(0);
    const config = machine.read('/etc/containerd/config.toml');
    expect(config).toContain('SystemdCgroup = true');
    expect(config).toContain('config_path = "/etc/containerd/certs.d"');
    expect(config).toContain(
      containerd === 'v2'
        ? 'sandbox_image = "registry.k8s.io/pause:3.10.2"'
        : 'sandbox = "registry.k8s.io/pause:3.10.2"',
    );
    expect(config).not.toContain('sandboxer = "');
    expect(machine.calls('systemctl')).toContain('systemctl restart containerd');
  });

  it('tells kubeadm its exit code, and does not repeat init or a control-plane join', async () => {
    for (const kind of ['init', 'join-control-plane'] as const) {
      await using machine = await createBootstrapRoot(await userData(kind));
      machine.stub(
        'kubeadm',
        'case "$1" in version) echo v1.36.1 ;; init | join) echo "[ERROR Port-6443]" >&2; exit 42 ;; esac',
      );
      const { code, output } = machine.run();
      expect(code).toBe(42);
      expect(output).toContain('[ERROR Port-6443]');
      expect(output).toContain(`FAILED step=kubeadm-${kind} exit=42`);
      expect(
        machine.calls('kubeadm').filter((call) => /init|join/.test(call) && !call.includes('images')),
      ).toHaveLength(1);
      expect(machine.calls('kubeadm reset')).toEqual([]);
      expect(machine.exists('/run/cluster-api/bootstrap-success.complete')).toBe(false);
      expect(JSON.parse(machine.read('/var/lib/pcg/bootstrap-result.json'))).toEqual({
        result: 'failed',
        step: `kubeadm-${kind}`,
        exit: 42,
      });
      expect(machine.read('/var/log/pcg-bootstrap.log')).toContain('[ERROR Port-6443]');
    }
  });

  it('repeats a worker join after a reset, and fails with the last code', async () => {
    await using machine = await createBootstrapRoot(await userData('worker'));
    const flaky = `case "$1" in version) echo v1.36.1 ;;
      join) echo x >>/stub/joins; [ "$(wc -l </stub/joins)" -ge "$(cat /stub/good)" ] || exit 3 ;; esac`;
    machine.write('/stub/good', '3');
    machine.stub('kubeadm', flaky);
    expect(machine.run().code).toBe(0);
    const order = machine.calls('kubeadm').map((call) => call.split(' ')[1]);
    expect(order.filter((verb) => verb === 'join' || verb === 'reset')).toEqual([
      'join',
      'reset',
      'join',
      'reset',
      'join',
    ]);

    await using hopeless = await createBootstrapRoot(await userData('worker'));
    hopeless.write('/stub/good', '99');
    hopeless.stub('kubeadm', flaky);
    expect(hopeless.run().code).toBe(3);
    expect(hopeless.calls('kubeadm join')).toHaveLength(3);
  });

  it('does nothing the second time', async () => {
    await using machine = await createBootstrapRoot(await userData('worker'));
    expect(machine.run().code).toBe(0);
    const calls = machine.calls().length;
    const again = machine.run();
    expect(again.code).toBe(0);
    expect(again.output).toContain('is a node already');
    expect(machine.calls()).toHaveLength(calls);
  });

  it('cleans up a half-done worker, but never claims success for a half-done control plane', async () => {
    await using worker = await createBootstrapRoot(await userData('worker'));
    worker.write('/etc/kubernetes/kubelet.conf', 'half');
    expect(worker.run().code).toBe(0);
    expect(worker.calls('kubeadm')[0]).toContain('kubeadm reset --force');
    await using control = await createBootstrapRoot(await userData('init'));
    control.write('/etc/kubernetes/kubelet.conf', 'half');
    expect(control.run().code).toBe(BOOTSTRAP_EXIT_CODES.halfDone);
    expect(control.calls('kubeadm init')).toEqual([]);
  });

  it('installs nothing on a prebaked image of the right version and refuses another one', async () => {
    await using right = await createBootstrapRoot(await userData('worker', { profile: prebaked() }));
    right.write('/stub/kubeadm-version', 'v1.36.1\n');
    expect(right.run().code).toBe(0);
    expect(right.calls('apt-get')).toEqual([]);
    expect(right.calls('curl')).toEqual([]);
    await using wrong = await createBootstrapRoot(await userData('worker', { profile: prebaked() }));
    wrong.write('/stub/kubeadm-version', 'v1.35.0\n');
    const { code, output } = wrong.run();
    expect(code).toBe(BOOTSTRAP_EXIT_CODES.versionMismatch);
    expect(output).toContain("holds Kubernetes 'v1.35.0', the cluster wants v1.36.1");
  });

  it('retries the network five times and then fails with the code of the command', async () => {
    await using machine = await createBootstrapRoot(await userData('worker'));
    machine.stub('apt-get', 'exit 100');
    const { code, output } = machine.run();
    expect(code).toBe(100);
    expect(machine.calls('apt-get')).toHaveLength(5);
    expect(machine.calls('sleep')).toEqual(['sleep 2', 'sleep 4', 'sleep 8', 'sleep 16']);
    expect(output).toContain('FAILED step=packages exit=100');
  });

  it('waits for the clock, but not for ever where there is no time source', async () => {
    await using machine = await createBootstrapRoot(await userData('worker', { profile: prebaked() }));
    machine.write('/stub/kubeadm-version', 'v1.36.1\n');
    machine.stub('timedatectl', '[ "$(grep -c timedatectl /stub/calls)" -gt 2 ] && echo yes || echo no');
    expect(machine.run().code).toBe(0);
    expect(machine.calls('timedatectl')).toHaveLength(3);
    machine.remove('/var/lib/pcg/bootstrap-complete');
    machine.remove('/etc/kubernetes/kubelet.conf');
    machine.write('/stub/calls', '');
    machine.stub('timedatectl', 'echo no');
    const { code, output } = machine.run();
    expect(code).toBe(0);
    expect(machine.calls('timedatectl')).toHaveLength(30);
    expect(output).toMatch(/the clock is not synchronised: 20/);
  });

  it('needs its own kernel settings, and not those of the image', async () => {
    await using machine = await createBootstrapRoot(await userData('worker', { profile: prebaked() }));
    machine.write('/stub/kubeadm-version', 'v1.36.1\n');
    machine.stub('sysctl', '[ "$1" != --system ]');
    expect(machine.run().code).toBe(0);
    expect(machine.calls('sysctl')).toEqual([
      'sysctl --system',
      'sysctl --load /etc/sysctl.d/99-kubernetes.conf',
    ]);
    await using other = await createBootstrapRoot(await userData('worker', { profile: prebaked() }));
    other.write('/stub/kubeadm-version', 'v1.36.1\n');
    other.stub('sysctl', '[ "$1" = --system ] || exit 255');
    expect(other.run()).toMatchObject({ code: 255, output: expect.stringContaining('FAILED step=kernel') });
  });

  it("keeps the image's own updates from apt's lists while it installs, and lets them go again", async () => {
    await using machine = await createBootstrapRoot(await userData('worker'));
    machine.stub('apt-get', 'exit 100');
    machine.run();
    const systemctl = machine.calls('systemctl');
    expect(systemctl[1]).toBe('systemctl stop apt-daily.timer apt-daily-upgrade.timer apt-daily.service');
    expect(systemctl.at(-1)).toBe('systemctl start apt-daily.timer apt-daily-upgrade.timer');
  });

  it('uses proxy, mirrors and private CAs everywhere, with its own address kept direct', async () => {
    const spec = clusterSpec({
      nodes: {
        httpProxy: 'http://user:it%27s%22@proxy.site:3128',
        httpsProxy: 'http://proxy.site:3128',
        caCertificates: ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'],
        imageRepository: 'registry.internal/kubernetes',
        packageMirror: 'http://apt.site/k8s',
      },
    });
    await using machine = await createBootstrapRoot(await userData('init', { spec }));
    const { code, output } = machine.run();
    expect([code, output]).toEqual([0, expect.anything()]);
    const environment = machine.read('/stub/kubeadm-env');
    expect(environment).toContain('http_proxy=http://user:it%27s%22@proxy.site:3128');
    const noProxy = /^NO_PROXY=(.*)$/m.exec(environment)?.[1]?.split(',');
    expect(noProxy).toEqual(
      expect.arrayContaining([
        '10.20.0.11',
        '10.20.0.0/24',
        '10.20.0.200',
        '.svc',
        'apt.site',
        'registry.internal',
      ]),
    );
    expect(machine.read('/etc/systemd/system/containerd.service.d/http-proxy.conf')).toContain(
      '10.20.0.11,10.20.0.0/24',
    );
    expect(machine.read('/etc/environment')).toMatch(/^PATH="\/usr\/bin"\nHTTP_PROXY="http:/);
    expect(machine.calls('curl')[0]).toContain('http://apt.site/k8s/core:/stable:/v1.36/deb/Release.key');
    expect(machine.calls('kubeadm config images pull')[0]).toContain(
      '--image-repository registry.internal/kubernetes',
    );
    expect(machine.calls('update-ca-certificates')).toHaveLength(1);
    const order = machine.calls().map((call) => call.split(' ')[0]);
    expect(order.indexOf('update-ca-certificates')).toBeLessThan(order.indexOf('apt-get'));
  });

  it('never takes the endpoint address for its own, and finds an address while the name does not exist', async () => {
    await using holder = await createBootstrapRoot(await userData('init'));
    holder.stub(
      'ip',
      `case "$*" in
      *"route get 10.20.0.200"*) echo "local 10.20.0.200 dev lo src 10.20.0.200 uid 0" ;;
      *"route get"*) echo "192.0.2.1 via 10.20.0.1 dev enp1s0 src 10.20.0.200 uid 0" ;;
      *"addr show"*) echo "2: enp1s0    inet 10.20.0.200/32 scope global enp1s0"; echo "2: enp1s0    inet 10.20.0.11/24 scope global enp1s0" ;;
    esac`,
    );
    expect(holder.run().code).toBe(0);
    expect(holder.read('/run/kubeadm/kubeadm.yaml')).toContain('advertiseAddress: 10.20.0.11');

    const endpoint = { host: 'demo-ab12cd.maas', port: 6443, vip: false };
    await using named = await createBootstrapRoot(await userData('init', { endpoint }));
    named.stub('getent', 'exit 2');
    expect(named.run().code).toBe(0);
    expect(named.calls('ip')[0]).toContain('route get 192.0.2.1');

    await using lost = await createBootstrapRoot(await userData('worker'));
    lost.stub('ip', 'exit 2');
    expect(lost.run().code).toBe(BOOTSTRAP_EXIT_CODES.noNodeAddress);
  });

  it('names the reason when containerd is dead or unknown, or when user-data is incomplete', async () => {
    await using dead = await createBootstrapRoot(await userData('worker'), { socket: false });
    expect(dead.run().code).toBe(BOOTSTRAP_EXIT_CODES.containerRuntime);
    await using strange = await createBootstrapRoot(await userData('worker'));
    strange.write('/stub/containerd-default.toml', 'version = 9\n');
    expect(strange.run().code).toBe(BOOTSTRAP_EXIT_CODES.containerRuntime);
    await using restart = await createBootstrapRoot(await userData('worker'));
    restart.stub('systemctl', '[ "$1" != restart ] || exit 5');
    expect(restart.run()).toMatchObject({
      code: 5,
      output: expect.stringContaining('FAILED step=containerd exit=5'),
    });
    for (const file of ['/etc/pcg/bootstrap.env', '/run/kubeadm/kubeadm-join-config.yaml']) {
      await using incomplete = await createBootstrapRoot(await userData('worker'));
      incomplete.remove(file);
      expect(incomplete.run()).toMatchObject({
        code: BOOTSTRAP_EXIT_CODES.incompleteUserData,
        output: expect.stringContaining(`${file} is missing`),
      });
    }
  });

  it('patches the system first where the policy says so, with Kubernetes packages held', async () => {
    const spec = clusterSpec({ policies: { patching: { onBoot: true } } });
    await using machine = await createBootstrapRoot(await userData('worker', { spec, profile: prebaked() }));
    machine.write('/stub/kubeadm-version', 'v1.36.1\n');
    machine.stub('dpkg-query', ':');
    expect(machine.run().code).toBe(0);
    expect(machine.calls('apt-mark').slice(0, 4)).toEqual(
      ['kubelet', 'kubeadm', 'kubectl', 'containerd'].map((name) => `apt-mark hold ${name}`),
    );
    expect(machine.calls('apt-get').at(-1)).toContain('--with-new-pkgs upgrade');
  });
});
