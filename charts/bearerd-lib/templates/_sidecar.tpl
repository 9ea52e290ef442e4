{{- /* The sidecar's container. */ -}}
{{- define "bearerd.lib.sidecar" -}}
name: bearerd
image: {{ .image | quote }}
{{- with .imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
restartPolicy: Always
args:
  - run
  - --annotations=/var/run/bearerd/pod/annotations
  - {{ printf "--allow-hosts=%s" (join "," .allowHosts) | quote }}
  {{- with .allowAccounts }}
  - {{ printf "--allow-accounts=%s" (join "," .) | quote }}
  {{- end }}
  {{- with .allowScopes }}
  - {{ printf "--allow-scopes=%s" (join "," .) | quote }}
  {{- end }}
  {{- if .allowMetadataToken }}
  - --allow-metadata-token
  {{- end }}
  {{- if eq .sharedProcesses "warn" }}
  - --shared-processes=warn
  {{- end }}
  - --log-format={{ .logFormat }}
  {{- with .logLevel }}
  - --log-level={{ . }}
  {{- end }}
env:
  - name: BEARERD_CONFIG_TEXT
    value: {{ include "bearerd.lib.config" . | toJson }}
ports:
  - name: bearerd-metrics
    containerPort: 14190
    protocol: TCP
startupProbe:
  exec:
    command: [/bearerd, ready]
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  {{- if .user }}
  runAsUser: {{ int64 .user }}
  runAsGroup: {{ int64 .user }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: bearerd-trust
    mountPath: /var/run/bearerd/trust
  - name: bearerd-private
    mountPath: /var/run/bearerd/private
  - name: bearerd-pod
    mountPath: /var/run/bearerd/pod
    readOnly: true
  - name: bearerd-key
    mountPath: /var/run/secrets/bearerd/default
    readOnly: true
  {{- range $name, $_ := .secrets }}
  - name: bearerd-key-{{ $name }}
    mountPath: /var/run/secrets/bearerd/{{ $name }}
    readOnly: true
  {{- end }}
  {{- if .extraRoots.configMap }}
  - name: bearerd-roots
    mountPath: /var/run/bearerd/roots
    readOnly: true
  {{- end }}
{{- end -}}

{{- /* The configuration, as one line of JSON. The pod's other containers have ended when a native sidecar is told to. */ -}}
{{- define "bearerd.lib.config" -}}
{{- $config := deepCopy .config -}}
{{- $drain := default dict $config.drain -}}
{{- if not (hasKey $drain "linger") -}}{{- $_ := set $drain "linger" "0s" -}}{{- end -}}
{{- $_ := set $config "drain" $drain -}}
{{- if .extraRoots.configMap -}}
{{- $upstream := default dict $config.upstream -}}
{{- $_ := set $upstream "extraRoots" (printf "/var/run/bearerd/roots/%s" .extraRoots.key) -}}
{{- $_ := set $config "upstream" $upstream -}}
{{- end -}}
{{- toRawJson $config -}}
{{- end -}}

{{- /* Its volumes. Files are readable for all, since only the sidecar mounts them and it is not root. */ -}}
{{- define "bearerd.lib.volumes" -}}
- name: bearerd-trust
  emptyDir:
    medium: Memory
    sizeLimit: 4Mi
- name: bearerd-private
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: bearerd-pod
  downwardAPI:
    defaultMode: 292
    items:
      - path: annotations
        fieldRef:
          fieldPath: metadata.annotations
- name: bearerd-key
  secret:
    secretName: {{ .secretName }}
    defaultMode: 292
    {{- with .secretKey }}
    items:
      - key: {{ . }}
        path: {{ . }}
    {{- end }}
{{- range $name, $secret := .secrets }}
- name: bearerd-key-{{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 292
{{- end }}
{{- if .extraRoots.configMap }}
- name: bearerd-roots
  configMap:
    name: {{ .extraRoots.configMap }}
    defaultMode: 292
    items:
      - key: {{ .extraRoots.key }}
        path: {{ .extraRoots.key }}
{{- end }}
{{- end -}}
