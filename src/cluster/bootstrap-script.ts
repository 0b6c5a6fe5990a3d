/**
 * The script that makes a node, and tells the truth about it: its exit code is kubeadm's, cloud-init reports it,
 * MAAS shows it. Static text; everything that differs between nodes is in /etc/pcg/bootstrap.env, so that the
 * same script is checked by shellcheck, run in tests and found on every machine. Running it again continues or
 * does nothing. Neighbours: user-data.ts (files it expects), kubeadm.ts (configuration it fills in).
 */
import { mergeNodeSettings } from './site-settings.ts';
import { apiServerPort, INIT_CONFIG_PATH, JOIN_CONFIG_PATH } from './kubeadm.ts';
import type { NodeInput } from './user-data.ts';

export const BOOTSTRAP_SCRIPT_PATH = '/usr/local/sbin/pcg-bootstrap';

/** Exit codes of the script's own checks; anything else is the code of the command that failed. */
export const BOOTSTRAP_EXIT_CODES = {
  /** The prepared image holds another Kubernetes than asked for, or none. */
  versionMismatch: 65,
  /** A file that user-data should have brought is missing. */
  incompleteUserData: 66,
  /** No address of this machine routes to the endpoint. */
  noNodeAddress: 68,
  /** containerd does not come up or does not take its configuration. */
  containerRuntime: 69,
  /** An earlier control-plane bootstrap failed half way; only a fresh machine can repeat it. */
  halfDone: 70,
} as const;

/** Shell variables of one node, single-quoted. Holds no secret. */
export function renderBootstrapEnvironment(input: NodeInput): string {
  const settings = mergeNodeSettings(input.site, input.spec.nodes);
  const version = input.profile.kubernetes.kubernetesVersion;
  const variables: Record<string, string> = {
    PCG_KIND: input.kind,
    PCG_VARIANT: input.profile.os.variant,
    PCG_CLUSTER: input.cluster.name,
    PCG_NODE: input.node.hostname,
    PCG_CONFIG: input.kind === 'init' ? INIT_CONFIG_PATH : JOIN_CONFIG_PATH,
    PCG_KUBERNETES_VERSION: version,
    PCG_PACKAGE_VERSION: `${version.slice(1)}-*`,
    PCG_PACKAGE_REPOSITORY: packageRepository(version, settings.packageMirror),
    PCG_IMAGE_REPOSITORY: settings.imageRepository ?? '',
    PCG_ENDPOINT_HOST: input.endpoint.host,
    PCG_API_PORT: String(apiServerPort(input)),
    PCG_VIP: input.endpoint.vip ? input.endpoint.host : '',
    PCG_PATCH_ON_BOOT: String(input.spec.policies.patching.onBoot),
  };
  return Object.entries(variables)
    .map(([name, value]) => `${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join('');
}

/** One package repository per minor version. */
function packageRepository(version: string, mirror: string | undefined): string {
  const base = (mirror ?? 'https://pkgs.k8s.io').replace(/\/+$/, '');
  return `${base}/core:/stable:/${version.split('.').slice(0, 2).join('.')}/deb`;
}

export const BOOTSTRAP_SCRIPT = String.raw`#!/bin/bash
# Makes this machine a node of a Kubernetes cluster. Called by cloud-init as its last command; the exit code is
# the verdict. Settings: /etc/pcg/bootstrap.env. Log: /var/log/pcg-bootstrap.log. Running it again is safe.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# needrestart would restart services in the middle of it, cloud-init's own among them.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 HOME=/root
umask 022

LOG=/var/log/pcg-bootstrap.log
STATE=/var/lib/pcg
COMPLETE=$STATE/bootstrap-complete
SENTINEL=/run/cluster-api/bootstrap-success.complete
SOCKET=/run/containerd/containerd.sock
TRIES=5          # of everything that uses the network
STEP=start

say() { printf '%s pcg-bootstrap %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

# A step marker: what runs now, for the log and for whoever looks at the machine.
step() {
  STEP=$1
  say "step $STEP"
  printf '%s\n' "$STEP" >"$STATE/bootstrap-step"
}

# Ends with a sentence and a code of our own.
die() {
  local code=$1
  shift
  say "FAILED step=$STEP exit=$code: $*"
  printf '{"result":"failed","step":"%s","exit":%d}\n' "$STEP" "$code" >"$STATE/bootstrap-result.json"
  trap - ERR
  resume_apt_timers
  exit "$code"
}

# Any command that fails unexpectedly ends the script with that command's code.
on_error() {
  local code=$1 command=$2
  die "$code" "$command"
}

# retry COMMAND...: up to TRIES times, waiting 2, 4, 8, 16 s; the last code is the verdict.
retry() {
  local attempt code=0 pause=2
  for ((attempt = 1; attempt <= TRIES; attempt++)); do
    code=0
    "$@" || code=$?
    [ "$code" -eq 0 ] && return 0
    say "attempt $attempt of $TRIES failed with $code: $*"
    [ "$attempt" -lt "$TRIES" ] && sleep "$pause"
    pause=$((pause * 2))
  done
  return "$code"
}

# The address and interface of this machine that route to the endpoint. Never the endpoint address itself,
# which kube-vip may already have put on our interface.
find_node_address() {
  local target=$PCG_ENDPOINT_HOST route='' attempt
  NODE_IP='' NODE_INTERFACE=''
  for ((attempt = 1; attempt <= 30; attempt++)); do
    if [[ ! $target =~ ^[0-9.]+$ ]]; then
      # The name of a new cluster may not exist yet: then any outside address shows the right interface.
      target=$(getent ahostsv4 "$PCG_ENDPOINT_HOST" 2>/dev/null | awk 'NR == 1 { print $1 }') || true
      [ -n "$target" ] || target=192.0.2.1
    fi
    route=$(ip -4 -o route get "$target" 2>/dev/null) || route=''
    case $route in
    '' | local*) route=$(ip -4 -o route get 192.0.2.1 2>/dev/null) || route='' ;;
    esac
    NODE_IP=$(sed -n 's/.* src \([0-9.]*\).*/\1/p' <<<"$route")
    NODE_INTERFACE=$(sed -n 's/.* dev \([^ ]*\).*/\1/p' <<<"$route")
    if [ -n "$NODE_IP" ] && [ -n "$PCG_VIP" ] && [ "$NODE_IP" = "$PCG_VIP" ]; then
      NODE_IP=$(ip -4 -o addr show dev "$NODE_INTERFACE" scope global |
        awk -v vip="$PCG_VIP" '{ sub("/.*", "", $4); if ($4 != vip) { print $4; exit } }')
    fi
    [ -n "$NODE_IP" ] && [ -n "$NODE_INTERFACE" ] && return 0
    sleep 2
  done
  return 1
}

fill_in_placeholders() {
  local file
  NODE_NETWORK=$(ip -4 -o route show dev "$NODE_INTERFACE" scope link | awk 'NR == 1 { print $1 }')
  [ -n "$NODE_NETWORK" ] || NODE_NETWORK=$NODE_IP/32
  for file in "$PCG_CONFIG" /etc/kubernetes/manifests/kube-vip.yaml /etc/pcg/proxy.env /etc/environment \
    /etc/systemd/system/containerd.service.d/http-proxy.conf /etc/apt/apt.conf.d/95proxy; do
    [ -f "$file" ] || continue
    sed -i "s/__NODE_IP__/$NODE_IP/g; s/__NODE_INTERFACE__/$NODE_INTERFACE/g; s#__NODE_NETWORK__#$NODE_NETWORK#g" "$file"
  done
}

load_proxy() {
  [ -f /etc/pcg/proxy.env ] || return 0
  # shellcheck source=/dev/null
  . /etc/pcg/proxy.env
  if command -v snap >/dev/null; then
    timeout 20 snap set system proxy.http="$(printenv http_proxy)" proxy.https="$(printenv https_proxy)" ||
      say 'snap did not take the proxy'
  fi
}

# A clock that is behind takes the cluster's certificates and apt's lists for not valid yet. Sites without a time
# source go on after a minute.
wait_for_clock() {
  local attempt
  command -v timedatectl >/dev/null || return 0
  for ((attempt = 1; attempt <= 30; attempt++)); do
    [ "$(timedatectl show --property NTPSynchronized --value 2>/dev/null)" != yes ] || return 0
    sleep 2
  done
  say "the clock is not synchronised: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
}

prepare_kernel() {
  modprobe overlay
  modprobe br_netfilter
  # Other files of the image may hold what this kernel does not know; ours must be taken, and last.
  sysctl --system >/dev/null || say 'sysctl did not take every setting of the image'
  sysctl --load /etc/sysctl.d/99-kubernetes.conf >/dev/null
  # The kubelet refuses to run with swap. No rights in MAAS are needed to do it here.
  swapoff -a
  [ ! -f /etc/fstab ] || sed -i -E '/^[^#].*[[:space:]]swap[[:space:]]/ s/^/#/' /etc/fstab
  systemctl mask swap.target >/dev/null
}

apt_get() { apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -y "$@"; }

# The image's own timers hold apt's lists, for which apt does not wait. What has begun to install is waited for.
pause_apt_timers() {
  systemctl stop apt-daily.timer apt-daily-upgrade.timer apt-daily.service 2>/dev/null || true
}

resume_apt_timers() {
  systemctl start apt-daily.timer apt-daily-upgrade.timer 2>/dev/null || true
}

patch_system() {
  local package
  for package in kubelet kubeadm kubectl containerd; do
    ! dpkg-query -W "$package" >/dev/null 2>&1 || apt-mark hold "$package" >/dev/null
  done
  retry apt_get update
  retry apt_get --with-new-pkgs upgrade
  [ ! -e /var/run/reboot-required ] || say 'the patched system wants a reboot; the patching policy does it'
}

installed_version() { kubeadm version -o short 2>/dev/null || true; }

install_packages() {
  local key=/etc/apt/keyrings/kubernetes.asc
  retry apt_get update
  retry apt_get install --no-install-recommends ca-certificates curl gpg conntrack ebtables ethtool iptables \
    socat containerd
  mkdir -p /etc/apt/keyrings /etc/apt/sources.list.d
  retry curl -fsSL --connect-timeout 20 --max-time 120 -o "$key" "$PCG_PACKAGE_REPOSITORY/Release.key"
  printf 'Types: deb\nURIs: %s/\nSuites: /\nSigned-By: %s\n' "$PCG_PACKAGE_REPOSITORY" "$key" \
    >/etc/apt/sources.list.d/kubernetes.sources
  retry apt_get update
  retry apt_get install --no-install-recommends --allow-downgrades --allow-change-held-packages \
    "kubelet=$PCG_PACKAGE_VERSION" "kubeadm=$PCG_PACKAGE_VERSION" "kubectl=$PCG_PACKAGE_VERSION" cri-tools kubernetes-cni
  apt-mark hold kubelet kubeadm kubectl containerd >/dev/null
}

provide_kubernetes() {
  local found
  found=$(installed_version)
  if [ "$PCG_VARIANT" = stock ] && [ "$found" != "$PCG_KUBERNETES_VERSION" ]; then
    install_packages
    found=$(installed_version)
  fi
  [ "$found" = "$PCG_KUBERNETES_VERSION" ] ||
    die 65 "the image holds Kubernetes '$found', the cluster wants $PCG_KUBERNETES_VERSION"
}

# The generated file has the right schema for the installed containerd (1.x and 2.x differ); three keys change.
configure_containerd() {
  local config=/etc/containerd/config.toml pause
  mkdir -p /etc/containerd/certs.d
  image_options
  containerd config default >"$config.new"
  pause=$(list_images | grep -m1 '/pause:') || pause=''
  sed -i -E \
    -e 's|^( *SystemdCgroup *= *).*|\1true|' \
    -e 's|^( *config_path *= *).*|\1"/etc/containerd/certs.d"|' "$config.new"
  if [ -n "$pause" ]; then
    # 1.x calls it sandbox_image; 2.x has it as sandbox among the pinned images.
    sed -i -E \
      -e "s|^( *sandbox_image *= *).*|\1\"$pause\"|" \
      -e "/pinned_images\]/,/^ *\[/ s|^( *sandbox *= *).*|\1\"$pause\"|" "$config.new"
  fi
  grep -Eq '^ *SystemdCgroup *= *true' "$config.new" ||
    die 69 'containerd has a configuration that this script does not know'
  mv "$config.new" "$config"
  systemctl daemon-reload
  systemctl enable containerd >/dev/null
  systemctl restart containerd
}

# Options that name the control plane's images, as an array.
image_options() {
  IMAGE_OPTIONS=(--kubernetes-version "$PCG_KUBERNETES_VERSION")
  [ -z "$PCG_IMAGE_REPOSITORY" ] || IMAGE_OPTIONS+=(--image-repository "$PCG_IMAGE_REPOSITORY")
}

list_images() { kubeadm config images list "${'$'}{IMAGE_OPTIONS[@]}" 2>/dev/null; }

wait_for_containerd() {
  local attempt
  for ((attempt = 1; attempt <= 60; attempt++)); do
    [ -S "$SOCKET" ] && return 0
    sleep 1
  done
  die 69 "containerd has no socket at $SOCKET after 60 s"
}

pull_images() {
  retry kubeadm config images pull --cri-socket "unix://$SOCKET" "${'$'}{IMAGE_OPTIONS[@]}"
}

# Lets kube-vip take its lease. The gateway does the same from outside; this keeps init independent of it.
grant_kube_vip() {
  local admin
  [ -f /run/kubeadm/kube-vip-rbac.json ] || return 0
  for admin in /etc/kubernetes/super-admin.conf /etc/kubernetes/admin.conf; do
    [ -f "$admin" ] || continue
    kubectl --kubeconfig "$admin" --server "https://127.0.0.1:$PCG_API_PORT" --request-timeout 10s apply \
      -f /run/kubeadm/kube-vip-rbac.json && return 0
  done
  return 1
}

# Older kubeadm talks to the endpoint during init, which kube-vip must hold by then.
keep_granting_kube_vip() {
  local attempt
  for ((attempt = 1; attempt <= 300; attempt++)); do
    grant_kube_vip && return 0
    sleep 2
  done
}

run_kubeadm() {
  local code=0 attempt helper
  case $PCG_KIND in
  init)
    keep_granting_kube_vip >/dev/null 2>&1 & # without our output, or the log would wait for it
    helper=$!
    kubeadm init --config "$PCG_CONFIG" --skip-token-print || code=$?
    kill "$helper" 2>/dev/null || true
    [ "$code" -ne 0 ] || retry grant_kube_vip || say 'kube-vip has no rights yet; the gateway gives them'
    ;;
  join-control-plane)
    # Never repeated: a failed join may have left an etcd member, which only the gateway can take away.
    kubeadm join --config "$PCG_CONFIG" || code=$?
    ;;
  worker)
    for ((attempt = 1; attempt <= 3; attempt++)); do
      code=0
      kubeadm join --config "$PCG_CONFIG" || code=$?
      [ "$code" -eq 0 ] && break
      say "kubeadm join attempt $attempt of 3 ended with $code"
      [ "$attempt" -lt 3 ] || break
      kubeadm reset --force --cri-socket "unix://$SOCKET" || true
      sleep 15
    done
    ;;
  esac
  [ "$code" -eq 0 ] || die "$code" "kubeadm ended with $code"
}

main() {
  set -Eeuo pipefail
  trap 'on_error $? "$BASH_COMMAND"' ERR
  mkdir -p "$STATE" /run/cluster-api
  if [ -f "$COMPLETE" ]; then
    say 'this machine is a node already'
    printf 'success\n' >"$SENTINEL"
    exit 0
  fi
  step settings
  [ -f /etc/pcg/bootstrap.env ] || die 66 '/etc/pcg/bootstrap.env is missing'
  # shellcheck source=/dev/null
  . /etc/pcg/bootstrap.env
  [ -f "$PCG_CONFIG" ] || die 66 "$PCG_CONFIG is missing"
  if [ -f /etc/kubernetes/kubelet.conf ]; then
    [ "$PCG_KIND" = worker ] || die 70 'an earlier bootstrap of this control-plane node failed half way; release the machine'
    say 'an earlier join failed half way: cleaning up'
    kubeadm reset --force --cri-socket "unix://$SOCKET" || true
  fi
  step node-address
  find_node_address || die 68 "no address of this machine routes to $PCG_ENDPOINT_HOST"
  say "node address $NODE_IP on $NODE_INTERFACE"
  fill_in_placeholders
  step trust
  # An image without the package gets it below, and its installation takes up our CAs.
  ! command -v update-ca-certificates >/dev/null || update-ca-certificates >/dev/null
  load_proxy
  step clock
  wait_for_clock
  step kernel
  prepare_kernel
  pause_apt_timers
  if [ "$PCG_PATCH_ON_BOOT" = true ]; then
    step patch
    patch_system
  fi
  step packages
  provide_kubernetes
  resume_apt_timers
  step containerd
  configure_containerd
  wait_for_containerd
  systemctl enable kubelet >/dev/null
  if [ "$PCG_KIND" != worker ]; then
    step images
    pull_images
  fi
  step "kubeadm-$PCG_KIND"
  run_kubeadm
  step complete
  printf 'success\n' >"$SENTINEL"
  printf '{"result":"ok","step":"complete","exit":0}\n' >"$STATE/bootstrap-result.json"
  printf '%s %s\n' "$PCG_KIND" "$PCG_KUBERNETES_VERSION" >"$COMPLETE"
  say "$PCG_NODE is a node of $PCG_CLUSTER"
}

# kubeadm's output may hold join tokens.
touch "$LOG"
chmod 0600 "$LOG"
main 2>&1 | tee -a "$LOG"
exit "${'$'}{PIPESTATUS[0]}"
`;
