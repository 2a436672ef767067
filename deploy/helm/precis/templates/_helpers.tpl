{{- define "precis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "precis.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- with .pool }}
precis.dev/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "precis.labels" -}}
{{ include "precis.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "precis.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "precis.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "precis.image" -}}
{{- printf "%s-%s:%s" .root.Values.image.repository .image (default .root.Chart.AppVersion .root.Values.image.tag) -}}
{{- end -}}

{{/* What every pod has. */}}
{{- define "precis.pod" -}}
serviceAccountName: {{ include "precis.serviceAccount" .root }}
automountServiceAccountToken: false
# Precis reads variables that begin with PRECIS, and a release can be named so.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spreads the pods of a role over nodes and zones. */}}
{{- define "precis.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "precis.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "precis.selector" . | nindent 8 }}
{{- end -}}

{{/* What every container has. */}}
{{- define "precis.container" -}}
image: {{ include "precis.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml (default .values.resources .resources) | nindent 2 }}
{{- end -}}

{{- define "precis.env" -}}
- {name: PRECIS_CONFIG, value: /etc/precis/precis.toml}
{{- if include "precis.secret" . }}
- {name: PRECIS_SECRETS_DIR, value: /run/precis-secrets}
{{- end }}
- {name: PRECIS__NATS__URL, value: {{ .root.Values.nats.url | quote }}}
- {name: PRECIS__NATS__REPLICAS, value: {{ .root.Values.nats.replicas | quote }}}
- {name: PRECIS__NATS__MANAGE_TOPOLOGY, value: {{ .root.Values.nats.manageTopology | quote }}}
- {name: PRECIS__CLICKHOUSE__URL, value: {{ .root.Values.clickhouse.url | quote }}}
- {name: PRECIS__CLICKHOUSE__DATABASE, value: {{ .root.Values.clickhouse.database | quote }}}
- {name: PRECIS__CLICKHOUSE__USER, value: {{ .root.Values.clickhouse.user | quote }}}
- {name: PRECIS__ACCESS__INSECURE, value: {{ .root.Values.access.insecure | quote }}}
{{- if .root.Values.access.insecure }}
# Without keys, whoever reaches a service may use it, under any name.
- {name: PRECIS__HTTP__ALLOWED_HOSTS, value: "*"}
{{- end }}
{{- with .values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "precis.secret" -}}
{{- default .root.Values.existingSecret .values.existingSecret -}}
{{- end -}}

{{- define "precis.mounts" -}}
- {name: config, mountPath: /etc/precis, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if include "precis.secret" . }}
- {name: secrets, mountPath: /run/precis-secrets, readOnly: true}
{{- end }}
{{- with .values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "precis.volumes" -}}
- name: config
  secret: {secretName: {{ include "precis.fullname" .root }}-config}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with include "precis.secret" . }}
- name: secrets
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "precis.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  failureThreshold: {{ .startupFailures }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Pods with a changed configuration start again. */}}
{{- define "precis.annotations" -}}
checksum/config: {{ .root.Values.config | sha256sum }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
