{{- /* One container with the environment and the trust files. Takes container, settings, doors. */ -}}
{{- define "bearerd.lib.serve" -}}
{{- $container := .container -}}
{{- $env := default list $container.env -}}
{{- $theirs := dict -}}
{{- range $env -}}
{{- $_ := set $theirs .name (dict "value" (toString (default "" .value)) "hidden" (hasKey . "valueFrom")) -}}
{{- end -}}
{{- $state := dict "theirs" $theirs "ours" list -}}
{{- include "bearerd.lib.variables" (dict "state" $state "settings" .settings "doors" .doors) -}}
{{- $last := dict -}}
{{- range $index, $entry := $env -}}{{- $_ := set $last $entry.name $index -}}{{- end -}}
{{- $values := dict -}}
{{- range $state.ours -}}{{- $_ := set $values .name . -}}{{- end -}}
{{- $out := list -}}
{{- range $index, $entry := $env -}}
{{- $own := and (hasKey $values $entry.name) (eq (index $last $entry.name) $index) -}}
{{- $out = append $out (ternary (get $values $entry.name) $entry $own) -}}
{{- end -}}
{{- range $state.ours -}}
{{- if not (hasKey $theirs .name) -}}{{- $out = append $out . -}}{{- end -}}
{{- end -}}
{{- if $out -}}{{- $_ := set $container "env" $out -}}{{- end -}}
{{- $mount := dict "name" "bearerd-trust" "mountPath" "/var/run/bearerd/trust" "readOnly" true -}}
{{- $_ := set $container "volumeMounts" (append (default list $container.volumeMounts) $mount) -}}
{{- toYaml $container -}}
{{- end -}}

{{- /* Sets variables that mean the same to different programs, unless the user has set one of them otherwise. */ -}}
{{- define "bearerd.lib.family" -}}
{{- $value := .value -}}
{{- $state := .state -}}
{{- $kept := false -}}
{{- range .names -}}
{{- if hasKey $state.theirs . -}}
{{- $their := get $state.theirs . -}}
{{- if or $their.hidden (ne $their.value $value) -}}{{- $kept = true -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $kept -}}
{{- range .names -}}{{- $_ := set $state "ours" (append $state.ours (dict "name" . "value" $value)) -}}{{- end -}}
{{- end -}}
{{- $_ := set $state "kept" $kept -}}
{{- end -}}

{{- define "bearerd.lib.variables" -}}
{{- $state := .state -}}
{{- $settings := .settings -}}
{{- $proxy := .doors.proxy -}}
{{- $metadata := .doors.metadata -}}
{{- if $proxy -}}
{{- $url := printf "http://%s" $proxy -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "HTTPS_PROXY" "https_proxy") "value" $url) -}}
{{- if not $state.kept -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "grpc_proxy") "value" $url) -}}
{{- end -}}
{{- if $settings.httpProxy -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "HTTP_PROXY" "http_proxy") "value" $url) -}}
{{- end -}}
{{- include "bearerd.lib.noProxy" (dict "state" $state "settings" $settings) -}}
{{- $bundle := "/var/run/bearerd/trust/bundle.pem" -}}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" "HTTPLIB2_CA_CERTS" "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE" -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list .) "value" $bundle) -}}
{{- end -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "NODE_EXTRA_CA_CERTS") "value" "/var/run/bearerd/trust/ca.pem") -}}
{{- include "bearerd.lib.java" (dict "state" $state "settings" $settings "proxy" $proxy) -}}
{{- end -}}
{{- if $metadata -}}
{{- range list "GCE_METADATA_HOST" "GCE_METADATA_IP" "GCE_METADATA_ROOT" -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list .) "value" $metadata) -}}
{{- end -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "METADATA_SERVER_DETECTION") "value" "assume-present") -}}
{{- end -}}
{{- with $settings.project -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "GOOGLE_CLOUD_PROJECT" "GCLOUD_PROJECT") "value" .) -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "CLOUDSDK_CORE_PROJECT") "value" .) -}}
{{- end -}}
{{- if $proxy -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "NODE_USE_ENV_PROXY") "value" "1") -}}
{{- if not $metadata -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "CLOUDSDK_AUTH_DISABLE_CREDENTIALS") "value" "true") -}}
{{- end -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "GOOGLE_API_USE_MTLS_ENDPOINT") "value" "never") -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "GOOGLE_API_USE_CLIENT_CERTIFICATE") "value" "false") -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "GOOGLE_CLOUD_DISABLE_DIRECT_PATH") "value" "true") -}}
{{- end -}}
{{- if $metadata -}}
{{- include "bearerd.lib.family" (dict "state" $state "names" (list "GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN") "value" "false") -}}
{{- end -}}
{{- end -}}

{{- /* What is reached directly, for every container. */ -}}
{{- define "bearerd.lib.direct" -}}
{{- concat (list "localhost" "127.0.0.1" "::1" "169.254.169.254" "metadata.google.internal" ".svc" ".cluster.local" "$(KUBERNETES_SERVICE_HOST)") .noProxy | toRawJson -}}
{{- end -}}

{{- define "bearerd.lib.noProxy" -}}
{{- $state := .state -}}
{{- $direct := include "bearerd.lib.direct" .settings | fromJsonArray -}}
{{- $twins := dict "NO_PROXY" "no_proxy" "no_proxy" "NO_PROXY" "no_grpc_proxy" "no_grpc_proxy" -}}
{{- range list "NO_PROXY" "no_proxy" "no_grpc_proxy" -}}
{{- $own := get $state.theirs . -}}
{{- $twin := get $state.theirs (get $twins .) -}}
{{- if and $own $own.hidden -}}
{{- else if and (eq . "no_grpc_proxy") (not $own) -}}
{{- else -}}
{{- $user := "" -}}
{{- if $own -}}{{- $user = $own.value -}}{{- else if and $twin (not $twin.hidden) -}}{{- $user = $twin.value -}}{{- end -}}
{{- $items := list -}}
{{- range concat (splitList "," $user) $direct -}}
{{- if trim . -}}{{- $items = append $items (trim .) -}}{{- end -}}
{{- end -}}
{{- $_ := set $state "ours" (append $state.ours (dict "name" . "value" (join "," (uniq $items)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A group of properties of which the user sets any is left out whole. */ -}}
{{- define "bearerd.lib.java" -}}
{{- $state := .state -}}
{{- $own := get $state.theirs "JAVA_TOOL_OPTIONS" -}}
{{- if not (and $own $own.hidden) -}}
{{- $value := "" -}}
{{- if $own -}}{{- $value = trim $own.value -}}{{- end -}}
{{- $words := splitList " " $value -}}
{{- $host := first (splitList ":" .proxy) -}}
{{- $port := last (splitList ":" .proxy) -}}
{{- $hosts := list "127.*" "[::1]" -}}
{{- range include "bearerd.lib.direct" .settings | fromJsonArray -}}
{{- if hasPrefix "." . -}}{{- $hosts = append $hosts (printf "*%s" .) -}}
{{- else if not (has . (list "127.0.0.1" "::1")) -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- end -}}
{{- $groups := list (list "-Dhttps.proxy" (printf "-Dhttps.proxyHost=%s -Dhttps.proxyPort=%s" $host $port)) -}}
{{- if .settings.httpProxy -}}
{{- $groups = append $groups (list "-Dhttp.proxy" (printf "-Dhttp.proxyHost=%s -Dhttp.proxyPort=%s" $host $port)) -}}
{{- end -}}
{{- $groups = append $groups (list "-Dhttp.nonProxyHosts" (printf "-Dhttp.nonProxyHosts=%s" (join "|" $hosts))) -}}
{{- $groups = append $groups (list "-Djavax.net.ssl.trustStore" "-Djavax.net.ssl.trustStore=/var/run/bearerd/trust/truststore.p12 -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=PKCS12") -}}
{{- range $groups -}}
{{- $prefix := first . -}}
{{- $theirs := false -}}
{{- range $words -}}{{- if hasPrefix $prefix . -}}{{- $theirs = true -}}{{- end -}}{{- end -}}
{{- if not $theirs -}}{{- $value = trim (printf "%s %s" $value (last .)) -}}{{- end -}}
{{- end -}}
{{- $_ := set $state "ours" (append $state.ours (dict "name" "JAVA_TOOL_OPTIONS" "value" $value)) -}}
{{- end -}}
{{- end -}}
