/**
 * Cilium beside kube-proxy: agents, and the operator, which registers Cilium's own definitions; packets travel in a
 * tunnel, every node uses the range that the controller manager has given it (or a pool of Cilium's own). No Hubble,
 * no Envoy, no Gateway API: a network and its policies. The agents reach the API server at the cluster's endpoint,
 * so that they depend on no service address.
 */
import { CniPackSchema } from '../profile.ts';

const API_SERVER = `            - name: KUBERNETES_SERVICE_HOST
              value: "\${endpointHost}"
            - name: KUBERNETES_SERVICE_PORT
              value: "\${endpointPort}"`;
const IDENTITY = `            - name: K8S_NODE_NAME
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
            - name: CILIUM_K8S_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace`;
const AGENT_IMAGE = '"${registry}/cilium/cilium:${version}"';

/** Runs one of the agent image's programs in the host's namespaces: it must lie on the host for that. */
const onHost = (program: string, namespaces: string, argument: string) =>
  `cp /usr/bin/${program} /hostbin/${program} && nsenter ${namespaces} /opt/cni/bin/${program}${argument} && rm /hostbin/${program}`;

const MANIFESTS = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: cilium
  namespace: kube-system
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: cilium-operator
  namespace: kube-system
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: cilium
rules:
  - apiGroups: [""]
    resources: [namespaces, services, pods, endpoints, nodes]
    verbs: [get, list, watch]
  - apiGroups: [networking.k8s.io]
    resources: [networkpolicies]
    verbs: [get, list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
  - apiGroups: [apiextensions.k8s.io]
    resources: [customresourcedefinitions]
    verbs: [get, list, watch]
  - apiGroups: [cilium.io]
    resources: ["*"]
    verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: cilium
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: cilium
subjects:
  - kind: ServiceAccount
    name: cilium
    namespace: kube-system
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: cilium-operator
rules:
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch, delete]
  - apiGroups: [""]
    resources: [nodes]
    verbs: [get, list, watch, patch]
  - apiGroups: [""]
    resources: [nodes/status, services/status]
    verbs: [update, patch]
  - apiGroups: [""]
    resources: [namespaces, services, endpoints]
    verbs: [get, list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create, get, update]
  - apiGroups: [apiextensions.k8s.io]
    resources: [customresourcedefinitions]
    verbs: [create, get, list, watch, update]
  - apiGroups: [cilium.io]
    resources: ["*"]
    verbs: [create, get, list, watch, update, patch, delete, deletecollection]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: cilium-operator
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: cilium-operator
subjects:
  - kind: ServiceAccount
    name: cilium-operator
    namespace: kube-system
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: cilium-config-agent
  namespace: kube-system
rules:
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: cilium-config-agent
  namespace: kube-system
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: cilium-config-agent
subjects:
  - kind: ServiceAccount
    name: cilium
    namespace: kube-system
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: cilium-config
  namespace: kube-system
data:
  agent-health-port: "9879"
  auto-direct-node-routes: "false"
  bpf-root: /sys/fs/bpf
  cgroup-root: /run/cilium/cgroupv2
  cilium-endpoint-gc-interval: 5m0s
  cluster-id: "0"
  cluster-name: default
  cluster-pool-ipv4-cidr: "\${podCidr}"
  cluster-pool-ipv4-mask-size: "24"
  cni-exclusive: "true"
  cni-log-file: /var/run/cilium/cilium-cni.log
  custom-cni-conf: "false"
  datapath-mode: veth
  debug: "false"
  enable-bpf-masquerade: "false"
  enable-endpoint-health-checking: "true"
  enable-health-checking: "true"
  enable-hubble: "false"
  enable-ipv4: "true"
  enable-ipv4-masquerade: "true"
  enable-ipv6: "false"
  enable-k8s-networkpolicy: "true"
  enable-l7-proxy: "false"
  enable-policy: default
  external-envoy-proxy: "false"
  identity-allocation-mode: crd
  identity-gc-interval: 15m0s
  identity-heartbeat-timeout: 30m0s
  ipam: "\${ipam}"
  k8s-require-ipv4-pod-cidr: "true"
  kube-proxy-replacement: "false"
  mtu: "\${mtu}"
  nodes-gc-interval: 5m0s
  operator-api-serve-addr: 127.0.0.1:9234
  remove-cilium-node-taints: "true"
  routing-mode: tunnel
  set-cilium-is-up-condition: "true"
  set-cilium-node-taints: "true"
  synchronize-k8s-nodes: "true"
  tunnel-protocol: "\${tunnel}"
  unmanaged-pod-watcher-interval: "15"
  write-cni-conf-when-ready: /host/etc/cni/net.d/05-cilium.conflist
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cilium-operator
  namespace: kube-system
spec:
  replicas: 1
  strategy:
    type: Recreate # it holds a port of its host
  selector:
    matchLabels:
      io.cilium/app: operator
  template:
    metadata:
      labels:
        io.cilium/app: operator
    spec:
      hostNetwork: true
      priorityClassName: system-cluster-critical
      serviceAccountName: cilium-operator
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - operator: Exists
      containers:
        - name: cilium-operator
          image: "\${registry}/cilium/operator-generic:\${version}"
          command: [cilium-operator-generic]
          args: [--config-dir=/tmp/cilium/config-map]
          env:
${IDENTITY}
${API_SERVER}
          livenessProbe:
            httpGet: { host: 127.0.0.1, path: /healthz, port: 9234 }
            initialDelaySeconds: 60
            periodSeconds: 10
          readinessProbe:
            httpGet: { host: 127.0.0.1, path: /healthz, port: 9234 }
            periodSeconds: 5
            failureThreshold: 5
          volumeMounts:
            - name: cilium-config
              mountPath: /tmp/cilium/config-map
              readOnly: true
      volumes:
        - name: cilium-config
          configMap:
            name: cilium-config
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: cilium
  namespace: kube-system
  labels:
    k8s-app: cilium
spec:
  selector:
    matchLabels:
      k8s-app: cilium
  updateStrategy:
    rollingUpdate:
      maxUnavailable: 2
  template:
    metadata:
      labels:
        k8s-app: cilium
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: cilium
      terminationGracePeriodSeconds: 1
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - operator: Exists
      securityContext:
        appArmorProfile:
          type: Unconfined
      initContainers:
        - name: config
          image: ${AGENT_IMAGE}
          command: [cilium-dbg, build-config]
          env:
${IDENTITY}
${API_SERVER}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
        - name: mount-cgroup
          image: ${AGENT_IMAGE}
          command: [sh, -ec, "${onHost('cilium-mount', '--cgroup=/hostproc/1/ns/cgroup --mount=/hostproc/1/ns/mnt', ' /run/cilium/cgroupv2')}"]
          securityContext: { privileged: true }
          volumeMounts:
            - name: hostproc
              mountPath: /hostproc
            - name: cni-path
              mountPath: /hostbin
        - name: apply-sysctl
          image: ${AGENT_IMAGE}
          command: [sh, -ec, "${onHost('cilium-sysctlfix', '--mount=/hostproc/1/ns/mnt', '')}"]
          securityContext: { privileged: true }
          volumeMounts:
            - name: hostproc
              mountPath: /hostproc
            - name: cni-path
              mountPath: /hostbin
        - name: clean-state
          image: ${AGENT_IMAGE}
          command: [/init-container.sh]
          env:
            - name: WRITE_CNI_CONF_WHEN_READY
              valueFrom:
                configMapKeyRef:
                  name: cilium-config
                  key: write-cni-conf-when-ready
${API_SERVER}
          securityContext: { privileged: true }
          volumeMounts:
            - name: bpf-maps
              mountPath: /sys/fs/bpf
            - name: cgroup
              mountPath: /run/cilium/cgroupv2
              mountPropagation: HostToContainer
            - name: cilium-run
              mountPath: /var/run/cilium
        - name: install-cni
          image: ${AGENT_IMAGE}
          command: [/install-plugin.sh]
          volumeMounts:
            - name: cni-path
              mountPath: /host/opt/cni/bin
      containers:
        - name: cilium-agent
          image: ${AGENT_IMAGE}
          command: [cilium-agent]
          args: [--config-dir=/tmp/cilium/config-map]
          env:
${IDENTITY}
${API_SERVER}
          lifecycle:
            preStop:
              exec:
                command: [/cni-uninstall.sh]
          startupProbe:
            httpGet: &health
              host: 127.0.0.1
              path: /healthz
              port: 9879
              httpHeaders:
                - name: brief
                  value: "true"
            failureThreshold: 300
            periodSeconds: 2
          livenessProbe:
            httpGet: *health
            periodSeconds: 30
            failureThreshold: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: *health
            periodSeconds: 30
            timeoutSeconds: 5
          resources:
            requests:
              cpu: 100m
              memory: 256Mi
          securityContext: { privileged: true }
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - name: bpf-maps
              mountPath: /sys/fs/bpf
              mountPropagation: Bidirectional
            - name: cgroup
              mountPath: /run/cilium/cgroupv2
            - name: cilium-run
              mountPath: /var/run/cilium
            - name: cni-conf
              mountPath: /host/etc/cni/net.d
            - name: lib-modules
              mountPath: /lib/modules
              readOnly: true
            - name: xtables-lock
              mountPath: /run/xtables.lock
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: tmp
          emptyDir: {}
        - name: bpf-maps
          hostPath: { path: /sys/fs/bpf, type: DirectoryOrCreate }
        - name: cgroup
          hostPath: { path: /run/cilium/cgroupv2, type: DirectoryOrCreate }
        - name: cilium-run
          hostPath: { path: /var/run/cilium, type: DirectoryOrCreate }
        - name: cni-conf
          hostPath: { path: /etc/cni/net.d, type: DirectoryOrCreate }
        - name: cni-path
          hostPath: { path: /opt/cni/bin, type: DirectoryOrCreate }
        - name: hostproc
          hostPath: { path: /proc, type: Directory }
        - name: lib-modules
          hostPath: { path: /lib/modules }
        - name: xtables-lock
          hostPath: { path: /run/xtables.lock, type: FileOrCreate }
`;

export const CILIUM_PACK = CniPackSchema.parse({
  layer: 'cni',
  name: 'cilium',
  version: '1.18.4',
  flavor: 'cilium',
  manifests: MANIFESTS,
  parameters: [
    {
      name: 'podCidr',
      type: 'cidr',
      description: "Network of the pods; filled with the cluster's own.",
      required: true,
    },
    {
      name: 'endpointHost',
      type: 'string',
      description: 'Address of the API server; filled in.',
      required: true,
    },
    {
      name: 'endpointPort',
      type: 'string',
      description: 'Port of the API server; filled in.',
      required: true,
    },
    {
      name: 'ipam',
      type: 'string',
      description:
        "Who gives nodes their ranges: Kubernetes' controller manager, or Cilium from a pool of its own.",
      default: 'kubernetes',
      enum: ['kubernetes', 'cluster-pool'],
    },
    {
      name: 'tunnel',
      type: 'string',
      description: 'How packets travel between nodes.',
      default: 'vxlan',
      enum: ['vxlan', 'geneve'],
    },
    {
      name: 'mtu',
      type: 'string',
      description: 'MTU of the network between the nodes in bytes; 0 = detected.',
      default: '0',
    },
    {
      name: 'registry',
      type: 'string',
      description: 'Registry that holds the images of Cilium.',
      default: 'quay.io',
    },
    { name: 'version', type: 'string', description: 'Tag of the images.', default: 'v1.18.4' },
  ],
});
