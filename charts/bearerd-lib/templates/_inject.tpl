{{- /*
bearerd.inject: a pod template with the sidecar in it, as YAML. Takes a dict:

  template        the pod template (metadata, spec)
  settings        the injector's settings; secretName is required
  containers      optional, a list: only these containers are served
  skipContainers  optional, a list: these are not

What it makes is what `bearerd inject` makes; tests/charts compares the two.
*/ -}}
{{- define "bearerd.inject" -}}
{{- $pod := deepCopy .template -}}
{{- $settings := include "bearerd.lib.settings" (default dict .settings) | fromYaml -}}
{{- if not (hasKey (default dict .settings) "user") -}}{{- $_ := set $settings "user" 14180 -}}{{- end -}}
{{- $metadata := default dict $pod.metadata -}}
{{- $spec := $pod.spec -}}
{{- include "bearerd.lib.check" (dict "metadata" $metadata "spec" $spec "settings" $settings) -}}
{{- $doors := include "bearerd.lib.doors" (dict "config" $settings.config "annotations" $metadata.annotations) | fromYaml -}}
{{- $served := list -}}
{{- range list "containers" "initContainers" -}}
{{- $list := list -}}
{{- range index $spec . -}}
{{- $named := has .name (default list $.containers) -}}
{{- $wanted := ternary $named (not (has .name (include "bearerd.lib.meshes" nil | fromYamlArray))) (not (empty $.containers)) -}}
{{- if and $wanted (not (has .name (default list $.skipContainers))) -}}
{{- $served = append $served .name -}}
{{- $list = append $list (include "bearerd.lib.serve" (dict "container" . "settings" $settings "doors" $doors) | fromYaml) -}}
{{- else -}}
{{- $list = append $list . -}}
{{- end -}}
{{- end -}}
{{- if $list -}}{{- $_ := set $spec . $list -}}{{- end -}}
{{- end -}}
{{- $sidecar := include "bearerd.lib.sidecar" $settings | fromYaml -}}
{{- $_ := set $spec "initContainers" (prepend (default list $spec.initContainers) $sidecar) -}}
{{- $_ := set $spec "volumes" (concat (default list $spec.volumes) (include "bearerd.lib.volumes" $settings | fromYamlArray)) -}}
{{- $annotations := default dict $metadata.annotations -}}
{{- $evict := "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" -}}
{{- $volumes := list -}}
{{- range concat (splitList "," (default "" (get $annotations $evict))) (list "bearerd-trust" "bearerd-private") -}}
{{- if trim . -}}{{- $volumes = append $volumes (trim .) -}}{{- end -}}
{{- end -}}
{{- $_ := set $annotations $evict (join "," (uniq $volumes)) -}}
{{- $_ := set $annotations "bearerd.dev/status" (printf `{"version":"%s","containers":%s}` (include "bearerd.lib.version" nil) (toRawJson $served)) -}}
{{- $labels := default dict $metadata.labels -}}
{{- $_ := set $labels "bearerd.dev/injected" "true" -}}
{{- $_ := set $metadata "annotations" $annotations -}}
{{- $_ := set $metadata "labels" $labels -}}
{{- $_ := set $pod "metadata" $metadata -}}
{{- toYaml $pod -}}
{{- end -}}

{{- define "bearerd.lib.version" -}}0.1.0{{- end -}}

{{- define "bearerd.lib.defaults" -}}
image: ghcr.io/bearerd/bearerd:{{ include "bearerd.lib.version" nil }}
imagePullPolicy: ""
secretName: ""
secretKey: ""
secrets: {}
allowHosts: ["*.googleapis.com"]
allowAccounts: []
allowScopes: []
allowMetadataToken: false
extraRoots: {configMap: "", key: ca.crt}
config: {}
httpProxy: false
noProxy: []
project: ""
logFormat: json
logLevel: ""
sharedProcesses: deny
resources:
  requests: {cpu: 10m, memory: 24Mi}
  limits: {memory: 64Mi}
{{- end -}}

{{- /* Given settings over the defaults; an unknown one is a typing error. Lists and resources replace. */ -}}
{{- define "bearerd.lib.settings" -}}
{{- $settings := include "bearerd.lib.defaults" nil | fromYaml -}}
{{- $known := append (keys $settings) "user" -}}
{{- range $field, $value := . -}}
{{- if not (has $field $known) -}}
{{- fail (printf "bearerd.inject: settings.%s: unknown, want one of %s" $field (sortAlpha $known | join ", ")) -}}
{{- end -}}
{{- if has $field (list "resources" "extraRoots") -}}
{{- range $part, $inner := $value -}}{{- $_ := set (index $settings $field) $part $inner -}}{{- end -}}
{{- else -}}
{{- $_ := set $settings $field $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /* What cannot be, with the reason. */ -}}
{{- define "bearerd.lib.check" -}}
{{- if not .settings.secretName -}}
{{- fail "bearerd.inject: settings.secretName: missing, want the name of the Secret that holds the key" -}}
{{- end -}}
{{- if not (kindIs "bool" .settings.allowMetadataToken) -}}
{{- fail "bearerd.inject: settings.allowMetadataToken: want true or false, without quotes" -}}
{{- end -}}
{{- range $name := list "allowHosts" "allowAccounts" "allowScopes" -}}
{{- if not (kindIs "slice" (get $.settings $name)) -}}
{{- fail (printf "bearerd.inject: settings.%s: want a list" $name) -}}
{{- end -}}
{{- end -}}
{{- if .spec.hostNetwork -}}
{{- fail "bearerd.inject: spec.hostNetwork: every pod of the node could use the sidecar's ports, want false" -}}
{{- end -}}
{{- $uid := .settings.user -}}
{{- $pod := default dict .spec.securityContext -}}
{{- $shared := ternary "hostPID" "shareProcessNamespace" (default false .spec.hostPID) -}}
{{- $shares := and (get .spec $shared) (eq .settings.sharedProcesses "deny") -}}
{{- range concat (default list .spec.initContainers) (default list .spec.containers) -}}
{{- $user := get (mergeOverwrite (dict) $pod (default dict .securityContext)) "runAsUser" -}}
{{- if and $shares (or (not $uid) (eq (toString $user) (toString $uid))) -}}
{{- fail (printf "bearerd.inject: spec.%s: a container with the sidecar's UID can read the key, want false, or another UID" $shared) -}}
{{- end -}}
{{- if eq .name "bearerd" -}}
{{- fail "bearerd.inject: spec.containers: 'bearerd' is the sidecar's name, want another name for a container of your own" -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := default dict .metadata.annotations -}}
{{- if has (trimPrefix "bearerd.dev/" $key) (include "bearerd.lib.injectors" nil | fromYamlArray) -}}
{{- fail (printf "bearerd.inject: annotation %s: only an injector reads it, and there is none here; want the setting of that name" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Annotations that only an injector reads. */ -}}
{{- define "bearerd.lib.injectors" -}}
- inject
- secret-name
- secret-key
- mode
- credentials
- containers
- skip-containers
- cpu-request
- cpu-limit
- memory-request
- memory-limit
- template
- no-proxy
{{- end -}}

{{- /* Containers that carry others' traffic. */ -}}
{{- define "bearerd.lib.meshes" -}}
- istio-proxy
- istio-init
- istio-validation
- linkerd-proxy
- linkerd-init
- linkerd-network-validator
- vault-agent
- vault-agent-init
{{- end -}}

{{- /* Addresses of the doors that the environment names; empty where one is off. */ -}}
{{- define "bearerd.lib.doors" -}}
{{- $listeners := default dict .config.listeners -}}
{{- $doors := dict "proxy" "127.0.0.1:14180" "metadata" "127.0.0.1:14181" -}}
{{- range $name, $_ := deepCopy $doors -}}
{{- if hasKey $listeners $name -}}
{{- $value := toString (index $listeners $name) -}}
{{- if eq $value "off" -}}
{{- $_ := set $doors $name "" -}}
{{- else if regexMatch "^127\\.\\d+\\.\\d+\\.\\d+:\\d+$" $value -}}
{{- $_ := set $doors $name $value -}}
{{- else -}}
{{- fail (printf "bearerd.inject: settings.config.listeners.%s: %s, want 127.0.0.1:PORT or \"off\"" $name $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $mode := (default dict .config.metadata).mode -}}
{{- with .annotations -}}{{- $mode = default $mode (get . "bearerd.dev/metadata") -}}{{- end -}}
{{- if eq (toString $mode) "off" -}}{{- $_ := set $doors "metadata" "" -}}{{- end -}}
{{- toYaml $doors -}}
{{- end -}}
