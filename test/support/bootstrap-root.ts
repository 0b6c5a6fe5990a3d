/**
 * A machine for the bootstrap script: a temporary root with the files of its user-data, entered by chroot inside
 * its own mount and network namespaces. Real bash, sed, awk and coreutils; stubs for what would change a machine.
 * Every stub writes its call into a log.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe } from 'vitest';
import { findProgram } from './needs.ts';
import { readCloudConfig } from './node-input.ts';

/** Only ends a hang: the script starts some hundred processes, on a busy machine one after the other. */
const HANGS_MS = 240_000;

/** Programs that the script calls and that must never be the real ones. */
const STUBBED = [
  'apt-get',
  'apt-mark',
  'containerd',
  'curl',
  'dpkg-query',
  'getent',
  'ip',
  'kubeadm',
  'kubectl',
  'modprobe',
  'reboot',
  'sleep',
  'snap',
  'swapoff',
  'sysctl',
  'systemctl',
  'timedatectl',
  'update-ca-certificates',
];

const DEFAULT_BEHAVIOUR: Record<string, string> = {
  ip: `case "$*" in
    *"route get"*) echo "$4 via 10.20.0.1 dev enp1s0 src 10.20.0.11 uid 0" | sed "s/^.* via/10.20.0.200 via/" ;;
    *"route show"*) echo "10.20.0.0/24 proto kernel src 10.20.0.11" ;;
    *"addr show"*) echo "2: enp1s0 inet 10.20.0.200/32 scope global enp1s0"; echo "2: enp1s0 inet 10.20.0.11/24 scope global enp1s0" ;;
  esac`,
  kubeadm: `case "$1" in
    version) cat /stub/kubeadm-version 2>/dev/null || exit 127 ;;
    config) [ "$2 $3" != "images list" ] || printf 'registry.k8s.io/kube-apiserver:v1.36.1\\nregistry.k8s.io/pause:3.10.2\\n' ;;
    init) touch /etc/kubernetes/kubelet.conf /etc/kubernetes/super-admin.conf; env >/stub/kubeadm-env; echo "your cluster is ready" ;;
    join) mkdir -p /etc/kubernetes; touch /etc/kubernetes/kubelet.conf ;;
    reset) rm -f /etc/kubernetes/kubelet.conf ;;
  esac`,
  'apt-get': `for word in "$@"; do case $word in kubeadm=*) echo "v$(echo "$word" | sed 's/kubeadm=//; s/-\\*//')" >/stub/kubeadm-version ;; esac; done`,
  containerd: 'cat /stub/containerd-default.toml',
  curl: 'while [ $# -gt 0 ]; do [ "$1" != -o ] || echo key >"$2"; shift; done',
  'dpkg-query': 'exit 1',
  timedatectl: 'echo yes',
};

/** What containerd 1.x and 2.x print for \`config default\`, shortened to the sections around the changed keys. */
export const CONTAINERD_DEFAULTS = {
  v2: `version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.6"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = ""
            SystemdCgroup = false
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = ""
`,
  v3: `version = 3
[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs'
    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'registry.k8s.io/pause:3.10'
    [plugins.'io.containerd.cri.v1.images'.registry]
      config_path = ''
  [plugins.'io.containerd.cri.v1.runtime']
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
          sandboxer = 'podsandbox'
          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
            BinaryName = ''
            SystemdCgroup = false
`,
};

const isolation = process.getuid?.() === 0 ? ['--mount', '--net'] : ['--map-root-user', '--mount', '--net'];
const UNSHARE = findProgram('unshare') ?? '/usr/bin/unshare';
const isolated = spawnSync(UNSHARE, [...isolation, 'true']).status === 0;

/** \`describe\` for suites that enter such a root; they need user or root rights to make namespaces. */
export function describeIsolated(title: string, body: () => void): void {
  if (isolated) describe(title, body);
  else if (process.env['CI']) throw new Error('CI must allow unshare(1) of mount and network namespaces');
  else describe.skip(`${title} [SKIPPED: unshare --mount is not permitted; run as root]`, body);
}

export interface BootstrapRoot extends AsyncDisposable {
  /** Replaces the behaviour (bash lines) of one stubbed program. */
  stub(program: string, lines: string): void;
  write(path: string, content: string): void;
  read(path: string): string;
  remove(path: string): void;
  exists(path: string): boolean;
  run(): { code: number | null; output: string };
  /** Calls of stubs, in order, e.g. \`kubeadm init --config ...\`. */
  calls(program?: string): string[];
}

export async function createBootstrapRoot(
  userData: string,
  options: { containerd?: keyof typeof CONTAINERD_DEFAULTS; socket?: boolean } = {},
): Promise<BootstrapRoot> {
  const root = mkdtempSync(join(tmpdir(), 'boot-'));
  const path = (inside: string) => join(root, inside);
  const write = (inside: string, content: string, mode = 0o644) => {
    mkdirSync(dirname(path(inside)), { recursive: true });
    writeFileSync(path(inside), content, { mode });
    chmodSync(path(inside), mode);
  };
  for (const directory of [
    'usr',
    'dev',
    'proc',
    'tmp',
    'root',
    'stub',
    'etc/alternatives',
    'var/log',
    'var/lib',
    'run/containerd',
  ])
    mkdirSync(path(directory), { recursive: true });
  for (const link of ['bin', 'sbin', 'lib', 'lib64'])
    if (existsSync(`/usr/${link}`)) symlinkSync(`usr/${link}`, path(link));

  const local = path('stub/local/sbin');
  mkdirSync(local, { recursive: true });
  const stub = (program: string, lines: string) => {
    const script = `#!/bin/bash\necho "${program} $*" >>/stub/calls\n${lines}\n`;
    writeFileSync(join(local, program), script, { mode: 0o755 });
  };
  for (const program of STUBBED) stub(program, DEFAULT_BEHAVIOUR[program] ?? ':');
  write('etc/fstab', 'UUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n# /old swap swap\n');
  write('etc/environment', 'PATH="/usr/bin"\n');
  write('stub/containerd-default.toml', CONTAINERD_DEFAULTS[options.containerd ?? 'v3']);
  write('stub/calls', '');
  for (const [file, { content, permissions, append }] of readCloudConfig(userData).files) {
    if (file.startsWith('/usr/local/sbin/'))
      writeFileSync(join(local, file.slice(16)), content, { mode: 0o700 });
    else
      write(
        file,
        (append ? readFileSync(path(file), 'utf8') : '') + content,
        Number.parseInt(permissions, 8),
      );
  }

  const socket = createServer();
  if (options.socket !== false)
    await new Promise<void>((resolve) => socket.listen(path('run/containerd/containerd.sock'), resolve));

  return {
    stub,
    write,
    read: (inside) => readFileSync(path(inside), 'utf8'),
    remove: (inside) => rmSync(path(inside)),
    exists: (inside) => existsSync(path(inside)),
    calls: (program) =>
      readFileSync(path('stub/calls'), 'utf8')
        .split('\n')
        .filter((line) => line !== '' && (program === undefined || line.startsWith(`${program} `))),
    run: () => {
      const enter = `set -e
        mount --rbind /usr "$1/usr" && mount --bind "$1/stub/local" "$1/usr/local"
        mount --bind /etc/alternatives "$1/etc/alternatives" # awk is a link into it
        mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc"
        exec chroot "$1" /usr/local/sbin/pcg-bootstrap`;
      const ran = spawnSync(UNSHARE, [...isolation, '--', 'bash', '-c', enter, 'enter', root], {
        encoding: 'utf8',
        timeout: HANGS_MS,
      });
      return { code: ran.status, output: ran.stdout + ran.stderr };
    },
    [Symbol.asyncDispose]: async () => {
      if (options.socket !== false) await new Promise<void>((resolve) => socket.close(() => resolve()));
      rmSync(root, { recursive: true, force: true });
    },
  };
}
