/**
 * Flannel on kubeadm clusters: the controller manager gives every node its range, flannel carries it. The
 * interface is chosen by the address that the kubelet registered, so that machines with several networks, and
 * control-plane nodes that hold the endpoint address, use the right one.
 */
import { CniPackSchema } from '../profile.ts';

const MANIFESTS = `apiVersion: v1
kind: Namespace
metadata:
  name: kube-flannel
  labels:
    pod-security.kubernetes.io/enforce: privileged
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: flannel
  namespace: kube-flannel
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: flannel
rules:
  - apiGroups: [""]
    resources: [pods]
    verbs: [get]
  - apiGroups: [""]
    resources: [nodes]
    verbs: [get, list, watch]
  - apiGroups: [""]
    resources: [nodes/status]
    verbs: [patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: flannel
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: flannel
subjects:
  - kind: ServiceAccount
    name: flannel
    namespace: kube-flannel
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: kube-flannel-cfg
  namespace: kube-flannel
  labels:
    app: flannel
data:
  cni-conf.json: |
    {
      "name": "cbr0",
      "cniVersion": "0.3.1",
      "plugins": [
        { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
        { "type": "portmap", "capabilities": { "portMappings": true } }
      ]
    }
  net-conf.json: |
    {
      "Network": "\${podCidr}",
      "EnableNFTables": false,
      "Backend": { "Type": "\${backend}", "MTU": \${mtu:-null} }
    }
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: kube-flannel-ds
  namespace: kube-flannel
  labels:
    app: flannel
spec:
  selector:
    matchLabels:
      app: flannel
  template:
    metadata:
      labels:
        app: flannel
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: flannel
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - operator: Exists
      initContainers:
        - name: install-cni-plugin
          image: "\${registry}/flannel-io/flannel-cni-plugin:v1.8.0-flannel1"
          command: [cp]
          args: ["-f", /flannel, /opt/cni/bin/flannel]
          volumeMounts:
            - name: cni-plugin
              mountPath: /opt/cni/bin
        - name: install-cni
          image: "\${registry}/flannel-io/flannel:v0.27.4"
          command: [cp]
          args: ["-f", /etc/kube-flannel/cni-conf.json, /etc/cni/net.d/10-flannel.conflist]
          volumeMounts:
            - name: cni
              mountPath: /etc/cni/net.d
            - name: flannel-cfg
              mountPath: /etc/kube-flannel/
      containers:
        - name: kube-flannel
          image: "\${registry}/flannel-io/flannel:v0.27.4"
          command: [/opt/bin/flanneld]
          args:
            - --ip-masq
            - --kube-subnet-mgr
            - --iface=$(NODE_IP)
          resources:
            requests:
              cpu: 100m
              memory: 50Mi
          securityContext:
            privileged: false
            capabilities:
              add: [NET_ADMIN, NET_RAW]
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: POD_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            - name: NODE_IP
              valueFrom:
                fieldRef:
                  fieldPath: status.hostIP
            - name: EVENT_QUEUE_DEPTH
              value: "5000"
            - name: CONT_WHEN_CACHE_NOT_READY
              value: "false"
          volumeMounts:
            - name: run
              mountPath: /run/flannel
            - name: flannel-cfg
              mountPath: /etc/kube-flannel/
            - name: xtables-lock
              mountPath: /run/xtables.lock
      volumes:
        - name: run
          hostPath:
            path: /run/flannel
        - name: cni-plugin
          hostPath:
            path: /opt/cni/bin
        - name: cni
          hostPath:
            path: /etc/cni/net.d
        - name: flannel-cfg
          configMap:
            name: kube-flannel-cfg
        - name: xtables-lock
          hostPath:
            path: /run/xtables.lock
            type: FileOrCreate
`;

export const FLANNEL_PACK = CniPackSchema.parse({
  layer: 'cni',
  name: 'flannel',
  version: '0.27.4',
  flavor: 'flannel',
  manifests: MANIFESTS,
  parameters: [
    {
      name: 'podCidr',
      type: 'cidr',
      description: "Network of the pods; filled with the cluster's own.",
      required: true,
    },
    {
      name: 'backend',
      type: 'string',
      description: 'How packets travel between nodes; host-gw needs all nodes in one segment.',
      default: 'vxlan',
      enum: ['vxlan', 'host-gw', 'wireguard'],
    },
    {
      name: 'mtu',
      type: 'integer',
      description: "MTU of the network between the nodes; unset: that of each node's interface.",
    },
    {
      name: 'registry',
      type: 'string',
      description: 'Registry that holds the images of Flannel.',
      default: 'ghcr.io',
    },
  ],
});
