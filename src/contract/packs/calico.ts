/**
 * Calico through its operator, which registers its own definitions (`-manage-crds`) and then makes everything that
 * the Installation asks for: VXLAN without BGP, beside kube-proxy. The Installation waits until its kind is served.
 * The operator may do everything: it creates roles with any rights by design.
 */
import { CniPackSchema } from '../profile.ts';

const MANIFESTS = `apiVersion: v1
kind: Namespace
metadata:
  name: tigera-operator
  labels:
    name: tigera-operator
    pod-security.kubernetes.io/enforce: privileged
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: tigera-operator
  namespace: tigera-operator
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: tigera-operator
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: cluster-admin
subjects:
  - kind: ServiceAccount
    name: tigera-operator
    namespace: tigera-operator
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: tigera-operator
  namespace: tigera-operator
  labels:
    k8s-app: tigera-operator
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      name: tigera-operator
  template:
    metadata:
      labels:
        name: tigera-operator
        k8s-app: tigera-operator
    spec:
      hostNetwork: true # there is no other network yet
      dnsPolicy: ClusterFirstWithHostNet
      serviceAccountName: tigera-operator
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - operator: Exists
      containers:
        - name: tigera-operator
          image: "\${registry}/tigera/operator:\${operatorVersion}"
          command: [operator]
          args: ["-manage-crds=true"]
          env:
            - name: WATCH_NAMESPACE
              value: ""
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: OPERATOR_NAME
              value: tigera-operator
            - name: TIGERA_OPERATOR_INIT_IMAGE_VERSION
              value: "\${operatorVersion}"
            - name: KUBERNETES_SERVICE_HOST
              value: "\${endpointHost}"
            - name: KUBERNETES_SERVICE_PORT
              value: "\${endpointPort}"
          volumeMounts:
            - name: var-lib-calico
              mountPath: /var/lib/calico
              readOnly: true
      volumes:
        - name: var-lib-calico
          hostPath:
            path: /var/lib/calico
---
apiVersion: operator.tigera.io/v1
kind: Installation
metadata:
  name: default
spec:
  variant: Calico
  registry: "\${registry}/"
  calicoNetwork:
    bgp: Disabled
    linuxDataplane: Iptables
    mtu: "\${mtu}"
    nodeAddressAutodetectionV4:
      kubernetes: NodeInternalIP
    ipPools:
      - name: default-ipv4-ippool
        cidr: "\${podCidr}"
        blockSize: 26
        encapsulation: "\${encapsulation}"
        natOutgoing: Enabled
        nodeSelector: all()
`;

export const CALICO_PACK = CniPackSchema.parse({
  layer: 'cni',
  name: 'calico',
  version: '3.31.3',
  flavor: 'calico',
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
      name: 'encapsulation',
      type: 'string',
      description: 'When packets travel in VXLAN: always, or only between subnets.',
      default: 'VXLAN',
      enum: ['VXLAN', 'VXLANCrossSubnet'],
    },
    { name: 'mtu', type: 'integer', description: 'MTU of the pods in bytes; 0 = detected.', default: 0 },
    {
      name: 'registry',
      type: 'string',
      description: 'Registry that holds the images of Calico.',
      default: 'quay.io',
    },
    {
      name: 'operatorVersion',
      type: 'string',
      description: 'Tag of the operator, which decides the version of Calico: v1.40.3 brings 3.31.3.',
      default: 'v1.40.3',
    },
  ],
});
