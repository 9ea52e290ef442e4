{{- /* Head of both configurations. */ -}}
{{- define "bearerd.webhookMetadata" -}}
name: {{ include "bearerd.fullname" . }}
labels:
  {{- include "bearerd.labels" . | nindent 2 }}
{{- if eq .Values.webhook.tls.mode "certManager" }}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "bearerd.fullname" . }}
{{- end }}
{{- end -}}

{{- /* Where an entry is asked. There is no caBundle but a provided one: the webhook or cert-manager writes it, and an
upgrade would take away what a rendered field holds. Takes (root, path). */ -}}
{{- define "bearerd.client" -}}
{{- $root := index . 0 -}}
{{- if eq $root.Values.webhook.tls.mode "provided" -}}
caBundle: {{ $root.Values.webhook.tls.provided.caBundle | b64enc }}
{{ end -}}
service:
  name: {{ include "bearerd.fullname" $root }}
  namespace: {{ $root.Release.Namespace }}
  path: {{ index . 1 }}
  port: 443
{{- end -}}

{{- /* Namespaces that are never asked about. Every namespace carries its name as a label. */ -}}
{{- define "bearerd.namespaces" -}}
{{- with .Values.webhook.excludedNamespaces -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    {{- toYaml . | nindent 4 }}
{{ end -}}
- key: bearerd.dev/webhook
  operator: NotIn
  values: [disabled]
{{- end -}}

{{- /* Mirrors of static pods cannot be changed. */ -}}
{{- define "bearerd.notMirrored" -}}
- name: not-a-mirror-pod
  expression: "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)"
{{- end -}}

{{- /* CEL: whether a label or annotation of the object at the given path has our prefix, or one that was meant to be.
Every step of the path is asked for, since an error would count as a match. */ -}}
{{- define "bearerd.mentions" -}}
{{- $path := "object" -}}
{{- $steps := list -}}
{{- range . -}}
{{- $path = printf "%s.%s" $path . -}}
{{- $steps = append $steps (printf "has(%s)" $path) -}}
{{- end -}}
{{- $guard := join " && " $steps -}}
{{- $pattern := "^[^/]*[Bb][AaEeRr]{3,6}[Dd]?[^/]*/" -}}
{{- $found := list -}}
{{- range list "labels" "annotations" -}}
{{- $found = append $found (printf "(%s && has(%s.%s) && %s.%s.exists(key, key.matches('%s')))" $guard $path . $path . $pattern) -}}
{{- end -}}
{{- join " ||\n" $found -}}
{{- end -}}

{{- /* What all entries for pods have in common. */ -}}
{{- define "bearerd.pods" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
matchPolicy: Equivalent
# Events tell what was done; there are none for a dry run.
sideEffects: NoneOnDryRun
# Containers that others add after us get their environment by a second call.
reinvocationPolicy: IfNeeded
timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
admissionReviewVersions: [v1]
{{- end -}}
