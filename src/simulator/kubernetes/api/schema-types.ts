/**
 * Fields of the built-in kinds, as this project reads the Kubernetes API reference. One line a type.
 *   name        string               name#       integer            name?      boolean      name*   anything
 *   name{}      map of strings       name[]      atomic list of strings        name[=]  set of strings
 *   name:Type   object               name!:Type  object replaced whole
 *   name[]:T    atomic list          name[a,b]:T list whose items are told apart by fields a and b
 *   name{}:T    map of objects       name[]#     atomic list of integers
 * Used for strict field checks, strategic merge and server-side apply (lists as maps, sets, atomic).
 */
export const SCHEMA_TEXT = `
ObjectMeta name generateName namespace selfLink uid resourceVersion generation# creationTimestamp deletionTimestamp deletionGracePeriodSeconds# labels{} annotations{} ownerReferences[uid]:OwnerReference finalizers[=] managedFields*
OwnerReference apiVersion kind name uid controller? blockOwnerDeletion?
LabelSelector matchLabels{} matchExpressions[]:SelectorRequirement
SelectorRequirement key operator values[]
LocalObjectReference name
ObjectReference kind namespace name uid apiVersion resourceVersion fieldPath
TypedObjectReference apiGroup kind name namespace
Condition type status observedGeneration# lastHeartbeatTime lastProbeTime lastUpdateTime lastTransitionTime reason message

ConfigMap data{} binaryData{} immutable?
Secret data{} stringData{} type immutable?
Namespace spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec finalizers[=]
NamespaceStatus phase conditions[type]:Condition
ServiceAccount secrets[name]:ObjectReference imagePullSecrets[name]:LocalObjectReference automountServiceAccountToken?
Event involvedObject!:ObjectReference reason message source:EventSource firstTimestamp lastTimestamp count# type eventTime series* action related!:ObjectReference reportingComponent reportingInstance reportingController note regarding!:ObjectReference deprecatedSource:EventSource deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedCount#
EventSource component host
LimitRange spec*
ResourceQuota spec* status*
Endpoints subsets*
PersistentVolume spec* status*
PersistentVolumeClaim spec:PersistentVolumeClaimSpec status*
PersistentVolumeClaimSpec accessModes[] selector!:LabelSelector resources:VolumeResources volumeName storageClassName volumeMode dataSource!:TypedObjectReference dataSourceRef!:TypedObjectReference volumeAttributesClassName
VolumeResources limits* requests*

Node spec:NodeSpec status:NodeStatus
NodeSpec podCIDR podCIDRs[=] providerID taints[]:Taint unschedulable? configSource* externalID
Taint key value effect timeAdded
NodeStatus capacity* allocatable* phase conditions[type]:Condition addresses[type]:NodeAddress daemonEndpoints* nodeInfo* images* volumesInUse[] volumesAttached* config* runtimeHandlers* features*
NodeAddress type address

Service spec:ServiceSpec status:ServiceStatus
ServiceSpec ports[port,protocol]:ServicePort selector{}! clusterIP clusterIPs[] type externalIPs[] sessionAffinity loadBalancerIP loadBalancerSourceRanges[] externalName externalTrafficPolicy healthCheckNodePort# publishNotReadyAddresses? sessionAffinityConfig* ipFamilies[] ipFamilyPolicy allocateLoadBalancerNodePorts? loadBalancerClass internalTrafficPolicy trafficDistribution
ServicePort name protocol appProtocol port# targetPort* nodePort#
ServiceStatus loadBalancer* conditions[type]:Condition

Pod spec:PodSpec status:PodStatus
PodTemplate template:PodTemplateSpec
PodTemplateSpec metadata:ObjectMeta spec:PodSpec
PodSpec volumes[name]:Volume initContainers[name]:Container containers[name]:Container ephemeralContainers[name]:Container restartPolicy terminationGracePeriodSeconds# activeDeadlineSeconds# dnsPolicy nodeSelector{}! serviceAccountName serviceAccount automountServiceAccountToken? nodeName hostNetwork? hostPID? hostIPC? shareProcessNamespace? securityContext:PodSecurityContext imagePullSecrets[name]:LocalObjectReference hostname subdomain affinity:Affinity schedulerName tolerations[]:Toleration hostAliases[ip]:HostAlias priorityClassName priority# dnsConfig:DNSConfig readinessGates[]:ReadinessGate runtimeClassName enableServiceLinks? preemptionPolicy overhead* topologySpreadConstraints[topologyKey,whenUnsatisfiable]:TopologySpread setHostnameAsFQDN? os* hostUsers? schedulingGates[name]:LocalObjectReference resourceClaims* resources:Resources hostnameOverride
PodSecurityContext seLinuxOptions* windowsOptions* runAsUser# runAsGroup# runAsNonRoot? supplementalGroups[]# supplementalGroupsPolicy fsGroup# sysctls[]:Sysctl fsGroupChangePolicy seccompProfile* appArmorProfile* seLinuxChangePolicy
Sysctl name value
DNSConfig nameservers[] searches[] options[]:NameValue
NameValue name value
ReadinessGate conditionType
HostAlias ip hostnames[]
Toleration key operator value effect tolerationSeconds#
TopologySpread maxSkew# topologyKey whenUnsatisfiable labelSelector!:LabelSelector minDomains# nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys[]
Affinity nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity requiredDuringSchedulingIgnoredDuringExecution!:NodeSelector preferredDuringSchedulingIgnoredDuringExecution[]:PreferredTerm
NodeSelector nodeSelectorTerms[]:NodeSelectorTerm
NodeSelectorTerm matchExpressions[]:SelectorRequirement matchFields[]:SelectorRequirement
PreferredTerm weight# preference!:NodeSelectorTerm
PodAffinity requiredDuringSchedulingIgnoredDuringExecution[]:PodAffinityTerm preferredDuringSchedulingIgnoredDuringExecution[]:WeightedAffinityTerm
PodAffinityTerm labelSelector!:LabelSelector namespaces[] topologyKey namespaceSelector!:LabelSelector matchLabelKeys[] mismatchLabelKeys[]
WeightedAffinityTerm weight# podAffinityTerm:PodAffinityTerm
Volume name hostPath:HostPath emptyDir:EmptyDir gcePersistentDisk* awsElasticBlockStore* gitRepo* secret:SecretVolume nfs* iscsi* glusterfs* persistentVolumeClaim:ClaimVolume rbd* flexVolume* cinder* cephfs* flocker* downwardAPI:DownwardVolume fc* azureFile* configMap:ConfigMapVolume vsphereVolume* quobyte* azureDisk* photonPersistentDisk* projected:ProjectedVolume portworxVolume* scaleIO* storageos* csi* ephemeral* image*
HostPath path type
EmptyDir medium sizeLimit*
SecretVolume secretName items[]:KeyToPath defaultMode# optional?
ConfigMapVolume name items[]:KeyToPath defaultMode# optional?
KeyToPath key path mode#
ClaimVolume claimName readOnly?
DownwardVolume items* defaultMode#
ProjectedVolume sources* defaultMode#
Container name image command[] args[] workingDir ports[containerPort,protocol]:ContainerPort envFrom[]:EnvFrom env[name]:EnvVar resources:Resources resizePolicy* restartPolicy restartPolicyRules* volumeMounts[mountPath]:VolumeMount volumeDevices[devicePath]:VolumeDevice livenessProbe:Probe readinessProbe:Probe startupProbe:Probe lifecycle* terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext:SecurityContext stdin? stdinOnce? tty? targetContainerName
ContainerPort name hostPort# containerPort# protocol hostIP
EnvFrom prefix configMapRef:OptionalReference secretRef:OptionalReference
OptionalReference name optional?
EnvVar name value valueFrom:EnvVarSource
EnvVarSource fieldRef!:FieldRef resourceFieldRef!:ResourceFieldRef configMapKeyRef!:KeyRef secretKeyRef!:KeyRef fileKeyRef*
FieldRef apiVersion fieldPath
ResourceFieldRef containerName resource divisor*
KeyRef name key optional?
Resources limits* requests* claims[name]:ResourceClaimName
ResourceClaimName name request
VolumeMount name readOnly? recursiveReadOnly mountPath subPath mountPropagation subPathExpr
VolumeDevice name devicePath
Probe exec:ExecAction httpGet:HttpGet tcpSocket:TcpSocket grpc* initialDelaySeconds# timeoutSeconds# periodSeconds# successThreshold# failureThreshold# terminationGracePeriodSeconds#
ExecAction command[]
HttpGet path port* host scheme httpHeaders[]:NameValue
TcpSocket port* host
SecurityContext capabilities:Capabilities privileged? seLinuxOptions* windowsOptions* runAsUser# runAsGroup# runAsNonRoot? readOnlyRootFilesystem? allowPrivilegeEscalation? procMount seccompProfile* appArmorProfile*
Capabilities add[] drop[]
PodStatus phase conditions[type]:Condition message reason nominatedNodeName hostIP hostIPs* podIP podIPs* startTime initContainerStatuses* containerStatuses* qosClass ephemeralContainerStatuses* resize observedGeneration# resourceClaimStatuses* extendedResourceClaimStatus*
Eviction deleteOptions*

Deployment spec:DeploymentSpec status:DeploymentStatus
DeploymentSpec replicas# selector!:LabelSelector template:PodTemplateSpec strategy:RolloutStrategy minReadySeconds# revisionHistoryLimit# paused? progressDeadlineSeconds#
RolloutStrategy type rollingUpdate:RollingUpdate
RollingUpdate maxUnavailable* maxSurge* partition#
DeploymentStatus observedGeneration# replicas# updatedReplicas# readyReplicas# availableReplicas# unavailableReplicas# terminatingReplicas# conditions[type]:Condition collisionCount#
ReplicaSet spec:ReplicaSetSpec status:DeploymentStatus
ReplicaSetSpec replicas# minReadySeconds# selector!:LabelSelector template:PodTemplateSpec
DaemonSet spec:DaemonSetSpec status:DaemonSetStatus
DaemonSetSpec selector!:LabelSelector template:PodTemplateSpec updateStrategy:RolloutStrategy minReadySeconds# revisionHistoryLimit#
DaemonSetStatus currentNumberScheduled# numberMisscheduled# desiredNumberScheduled# numberReady# observedGeneration# updatedNumberScheduled# numberAvailable# numberUnavailable# collisionCount# conditions[type]:Condition
StatefulSet spec:StatefulSetSpec status*
StatefulSetSpec replicas# selector!:LabelSelector template:PodTemplateSpec volumeClaimTemplates* serviceName podManagementPolicy updateStrategy:RolloutStrategy revisionHistoryLimit# minReadySeconds# persistentVolumeClaimRetentionPolicy* ordinals*
Job spec:JobSpec status*
JobSpec parallelism# completions# activeDeadlineSeconds# podFailurePolicy* successPolicy* backoffLimit# backoffLimitPerIndex# maxFailedIndexes# selector!:LabelSelector manualSelector? template:PodTemplateSpec ttlSecondsAfterFinished# completionMode suspend? podReplacementPolicy managedBy
CronJob spec:CronJobSpec status*
CronJobSpec schedule timeZone startingDeadlineSeconds# concurrencyPolicy suspend? jobTemplate:JobTemplateSpec successfulJobsHistoryLimit# failedJobsHistoryLimit#
JobTemplateSpec metadata:ObjectMeta spec:JobSpec
PodDisruptionBudget spec:PodDisruptionBudgetSpec status*
PodDisruptionBudgetSpec minAvailable* selector!:LabelSelector maxUnavailable* unhealthyPodEvictionPolicy
Role rules[]:PolicyRule
ClusterRole rules[]:PolicyRule aggregationRule!:AggregationRule
AggregationRule clusterRoleSelectors[]:LabelSelector
PolicyRule verbs[] apiGroups[] resources[] resourceNames[] nonResourceURLs[]
RoleBinding subjects[]:Subject roleRef!:RoleRef
ClusterRoleBinding subjects[]:Subject roleRef!:RoleRef
Subject kind apiGroup name namespace
RoleRef apiGroup kind name
Lease spec:LeaseSpec
LeaseSpec holderIdentity leaseDurationSeconds# acquireTime renewTime leaseTransitions# strategy preferredHolder
NetworkPolicy spec:NetworkPolicySpec
NetworkPolicySpec podSelector!:LabelSelector ingress[]:NetworkPolicyIngress egress[]:NetworkPolicyEgress policyTypes[]
NetworkPolicyIngress ports* from[]:NetworkPolicyPeer
NetworkPolicyEgress ports* to[]:NetworkPolicyPeer
NetworkPolicyPeer podSelector!:LabelSelector namespaceSelector!:LabelSelector ipBlock*
Ingress spec* status*
IngressClass spec*
EndpointSlice addressType endpoints[]* ports[]*
CustomResourceDefinition spec:CustomResourceDefinitionSpec status*
CustomResourceDefinitionSpec group names:CustomResourceNames scope versions[]:CustomResourceVersion conversion* preserveUnknownFields?
CustomResourceNames plural singular shortNames[] kind listKind categories[]
CustomResourceVersion name served? storage? deprecated? deprecationWarning schema* subresources* additionalPrinterColumns* selectableFields*
APIService spec* status*
CertificateSigningRequest spec* status*
PriorityClass value# globalDefault? description preemptionPolicy
StorageClass provisioner parameters{} reclaimPolicy mountOptions[] allowVolumeExpansion? volumeBindingMode allowedTopologies*
RuntimeClass handler overhead* scheduling*
MutatingWebhookConfiguration webhooks[name]:Webhook
ValidatingWebhookConfiguration webhooks[name]:Webhook
Webhook name clientConfig* rules* failurePolicy matchPolicy namespaceSelector!:LabelSelector objectSelector!:LabelSelector sideEffects timeoutSeconds# admissionReviewVersions[] reinvocationPolicy matchConditions[name]*
HorizontalPodAutoscaler spec* status*
Scale spec:ScaleSpec status*
ScaleSpec replicas#
`;
