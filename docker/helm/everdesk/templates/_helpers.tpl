{{- define "everdesk.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "everdesk.selector" -}}
app.kubernetes.io/name: everdesk
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "everdesk.labels" -}}
{{ include "everdesk.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "everdesk.peers" -}}
{{ include "everdesk.name" . }}-peers
{{- end }}

{{- define "everdesk.tokenSecret" -}}
{{ default (printf "%s-admin-token" (include "everdesk.name" .)) .Values.adminToken.existingSecret }}
{{- end }}

{{/* A new pod asks these for a way in; three are enough, and scaling does not restart every pod. */}}
{{- define "everdesk.nodes" -}}
{{- $hosts := list -}}
{{- range $i := until (min 3 (int .Values.replicas) | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s.%s.svc" (include "everdesk.name" $) $i (include "everdesk.peers" $) $.Release.Namespace) -}}
{{- end -}}
{{ join " " $hosts }}
{{- end }}
