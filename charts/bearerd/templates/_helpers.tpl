{{- define "bearerd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Name of every object: the release's, with the chart's unless it is in it. Short enough for suffixes of ours. */ -}}
{{- define "bearerd.fullname" -}}
{{- $name := include "bearerd.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bearerd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bearerd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- /* Labels of every object. Ours come over the user's, since selectors rely on them. */ -}}
{{- define "bearerd.labels" -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | toString)
  "app.kubernetes.io/part-of" "bearerd" -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) $ours (include "bearerd.selectorLabels" . | fromYaml) | toYaml -}}
{{- end -}}

{{- define "bearerd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bearerd.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* A full reference out of {registry, repository, tag, digest}. A digest wins: it is the only one that cannot move. */ -}}
{{- define "bearerd.image" -}}
{{- $image := index . 0 -}}
{{- $name := printf "%s/%s" $image.registry $image.repository | trimPrefix "/" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The sidecar's image: the webhook's, with what `sidecar.image` says. A tag of its own unsets the webhook's digest. */ -}}
{{- define "bearerd.sidecarImage" -}}
{{- $own := dict -}}
{{- range $field, $value := .Values.sidecar.image -}}
{{- if $value -}}{{- $_ := set $own $field $value -}}{{- end -}}
{{- end -}}
{{- $image := deepCopy .Values.image -}}
{{- if or $own.tag $own.repository $own.registry -}}{{- $_ := set $image "digest" "" -}}{{- end -}}
{{- mergeOverwrite $image $own | toYaml -}}
{{- end -}}

{{- /* The injector's settings file. */ -}}
{{- define "bearerd.settings" -}}
{{- $image := include "bearerd.sidecarImage" . | fromYaml -}}
{{- $settings := omit (deepCopy .Values.sidecar) "image" "user" -}}
{{- $_ := set $settings "image" (include "bearerd.image" (list $image .Chart.AppVersion)) -}}
{{- $_ := set $settings "imagePullPolicy" $image.pullPolicy -}}
{{- /* Helm drops a value that is set to null, and the injector would take its default for an absent field. */ -}}
{{- $_ := set $settings "user" nil -}}
{{- if and (ne .Values.platform "openshift") (not (kindIs "invalid" .Values.sidecar.user)) -}}
{{- $_ := set $settings "user" (int64 .Values.sidecar.user) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "bearerd.caSecret" -}}
{{- printf "%s-webhook-ca" (include "bearerd.fullname" .) -}}
{{- end -}}

{{- define "bearerd.tlsSecret" -}}
{{- if eq .Values.webhook.tls.mode "provided" -}}
{{- .Values.webhook.tls.provided.existingSecret -}}
{{- else -}}
{{- printf "%s-webhook-tls" (include "bearerd.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "bearerd.serviceHost" -}}
{{- printf "%s.%s.svc" (include "bearerd.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- /* What PSS "restricted" asks of a container, with a user unless the platform gives one. */ -}}
{{- define "bearerd.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if ne .root.Values.platform "openshift" }}
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* Combinations that cannot work are refused here, with what to do. Single values are the schema's. */ -}}
{{- define "bearerd.validate" -}}
{{- $tls := .Values.webhook.tls -}}
{{- if eq $tls.mode "provided" -}}
{{- if not (and $tls.provided.existingSecret $tls.provided.caBundle) -}}
{{- fail "webhook.tls.mode is provided: set webhook.tls.provided.existingSecret (a kubernetes.io/tls Secret) and webhook.tls.provided.caBundle (PEM of its CA)" -}}
{{- end -}}
{{- if not (contains "-----BEGIN CERTIFICATE-----" $tls.provided.caBundle) -}}
{{- fail "webhook.tls.provided.caBundle holds no certificate: want PEM (-----BEGIN CERTIFICATE-----), not base64 of it" -}}
{{- end -}}
{{- else if or $tls.provided.existingSecret $tls.provided.caBundle -}}
{{- fail (printf "webhook.tls.provided is set but webhook.tls.mode is %s: set the mode to provided, or take these out" $tls.mode) -}}
{{- end -}}
{{- if and $tls.certManager.issuerRef (ne $tls.mode "certManager") -}}
{{- fail (printf "webhook.tls.certManager.issuerRef is set but webhook.tls.mode is %s: set the mode to certManager, or take it out" $tls.mode) -}}
{{- end -}}
{{- if and .Values.webhook.hostNetwork (eq (int .Values.webhook.port) 10250) -}}
{{- fail "webhook.hostNetwork: the node's port 10250 is the kubelet's: set webhook.port to another" -}}
{{- end -}}
{{- if eq (int .Values.webhook.port) (int .Values.webhook.healthPort) -}}
{{- fail (printf "webhook.port and webhook.healthPort are both %d: want two ports" (int .Values.webhook.port)) -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: set serviceAccount.name; the rights would go to every pod that uses `default`" -}}
{{- end -}}
{{- end -}}
