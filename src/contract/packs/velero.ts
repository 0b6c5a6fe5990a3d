/**
 * Velero as an add-on: server, node agents that copy volumes file by file, and the S3 plugin. Its own program
 * installs the CustomResourceDefinitions, so that they always fit the version. Where backups go is not part of the
 * pack: the backup policy writes that, with credentials that only the gateway can open.
 */
import { type Pack, PackSchema } from '../profile.ts';

const MANIFESTS = `apiVersion: v1
kind: Namespace
metadata:
  name: velero
  labels:
    pod-security.kubernetes.io/enforce: privileged
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: velero
  namespace: velero
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: velero
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: cluster-admin
subjects:
  - kind: ServiceAccount
    name: velero
    namespace: velero
---
apiVersion: batch/v1
kind: Job
metadata:
  name: velero-definitions
  namespace: velero
spec:
  backoffLimit: 20
  template:
    spec:
      serviceAccountName: velero
      restartPolicy: OnFailure
      containers:
        - name: definitions
          image: "\${registry}/velero/velero:v1.17.1"
          command: [/velero]
          args: [install, --crds-only]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: velero
  namespace: velero
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      component: velero
  template:
    metadata:
      labels:
        component: velero
    spec:
      serviceAccountName: velero
      initContainers:
        - name: plugin-for-aws
          image: "\${registry}/velero/velero-plugin-for-aws:v1.13.1"
          volumeMounts:
            - name: plugins
              mountPath: /target
      containers:
        - name: velero
          image: "\${registry}/velero/velero:v1.17.1"
          command: [/velero]
          args: [server, --uploader-type=kopia]
          env:
            - name: VELERO_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            - name: VELERO_SCRATCH_DIR
              value: /scratch
            - name: LD_LIBRARY_PATH
              value: /plugins
          ports:
            - name: metrics
              containerPort: 8085
          resources:
            requests:
              cpu: 100m
              memory: 128Mi
          volumeMounts:
            - name: plugins
              mountPath: /plugins
            - name: scratch
              mountPath: /scratch
      volumes:
        - name: plugins
          emptyDir: {}
        - name: scratch
          emptyDir: {}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: node-agent
  namespace: velero
spec:
  selector:
    matchLabels:
      name: node-agent
  template:
    metadata:
      labels:
        component: velero
        name: node-agent
        role: node-agent
    spec:
      serviceAccountName: velero
      tolerations:
        - operator: Exists
      securityContext:
        runAsUser: 0
      containers:
        - name: node-agent
          image: "\${registry}/velero/velero:v1.17.1"
          command: [/velero]
          args: [node-agent, server]
          env:
            - name: NODE_NAME
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
            - name: VELERO_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            - name: VELERO_SCRATCH_DIR
              value: /scratch
          resources:
            requests:
              cpu: 50m
              memory: 64Mi
          volumeMounts:
            - name: host-pods
              mountPath: /host_pods
              mountPropagation: HostToContainer
            - name: host-plugins
              mountPath: /var/lib/kubelet/plugins
              mountPropagation: HostToContainer
            - name: scratch
              mountPath: /scratch
      volumes:
        - name: host-pods
          hostPath:
            path: /var/lib/kubelet/pods
        - name: host-plugins
          hostPath:
            path: /var/lib/kubelet/plugins
        - name: scratch
          emptyDir: {}
`;

export const VELERO_PACK: Pack = PackSchema.parse({
  layer: 'addon',
  name: 'velero',
  version: '1.17.1',
  manifests: MANIFESTS,
  parameters: [
    {
      name: 'registry',
      type: 'string',
      description: 'Registry that holds the images of Velero.',
      default: 'docker.io',
    },
  ],
});
