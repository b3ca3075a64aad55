{{/* Labels of every object. No release time and no random part: the same values give the same bytes. */}}
{{- define "opportune.labels" -}}
app.kubernetes.io/name: opportune
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: opportune
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What selects the pods of one role: dict "root" $ "role" NAME. */}}
{{- define "opportune.selector" -}}
app.kubernetes.io/name: opportune
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "opportune.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Namespaces that no webhook looks at, besides kube-system. */}}
{{- define "opportune.excludedNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.excludedNamespaces | uniq | toJson -}}
{{- end }}

{{/* Those of a list of resources that are among .Values.kinds, as a YAML list: dict "root" $ "resources" LIST; nothing where
there is none. */}}
{{- define "opportune.kinds" -}}
{{- $on := list }}
{{- range .resources }}
{{- if has . $.root.Values.kinds }}{{ $on = append $on . }}{{ end }}
{{- end }}
{{- if $on }}[{{ join ", " $on }}]{{ end }}
{{- end }}

{{/* Annotations by which cert-manager's cainjector finds the certificate; nothing where the program is its own authority. */}}
{{- define "opportune.caInjection" -}}
{{- if eq .Values.tls.mode "cert-manager" -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/opportune-webhook
{{- end }}
{{- end }}

{{/* One of the two Deployments: dict "root" $ "role" NAME "values" VALUES "ports" LIST. */}}
{{- define "opportune.deployment" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $isWebhook := eq .role "webhook" }}
{{- $volumes := list }}
{{- $mounts := list }}
{{- $listen := $root.Values.listenAddress }}
{{- $arguments := list "serve" (printf "--roles=%s" .role) (printf "--admin=%s:9090" $listen) }}
{{- if $isWebhook }}
{{- $arguments = append $arguments (printf "--listen=%s:%v" $listen $values.port) }}
{{- end }}
{{- $arguments = append $arguments (printf "--mode=%s" $root.Values.mode) }}
{{- with $root.Values.excludedNamespaces }}
{{- $arguments = append $arguments (printf "--exclude-namespaces=%s" (join "," .)) }}
{{- end }}
{{- if ne (join "," (sortAlpha $root.Values.kinds)) "deployments,statefulsets" }}
{{- $arguments = append $arguments (printf "--kinds=%s" (join "," $root.Values.kinds)) }}
{{- end }}
{{- if $root.Values.namespaceDefaults }}
{{- $arguments = append $arguments "--namespace-defaults" }}
{{- end }}
{{- if and (not $isWebhook) $root.Values.rollouts }}
{{- $arguments = append $arguments "--rollouts" }}
{{- end }}
{{- if eq $root.Values.tls.mode "cert-manager" }}
{{- $arguments = concat $arguments (list "--tls=files" "--tls-cert=/etc/opportune/tls/tls.crt" "--tls-key=/etc/opportune/tls/tls.key") }}
{{- $volumes = append $volumes (dict "name" "tls" "secret" (dict "secretName" "opportune-tls")) }}
{{- $mounts = append $mounts (dict "name" "tls" "mountPath" "/etc/opportune/tls" "readOnly" true) }}
{{- else }}
{{- $arguments = append $arguments "--tls=managed" }}
{{- end }}
{{- if and $isWebhook $root.Values.clientCA }}
{{- $arguments = append $arguments "--client-ca=/etc/opportune/client-ca/ca.crt" }}
{{- $volumes = append $volumes (dict "name" "client-ca" "configMap" (dict "name" "opportune-client-ca")) }}
{{- $mounts = append $mounts (dict "name" "client-ca" "mountPath" "/etc/opportune/client-ca" "readOnly" true) }}
{{- end }}
{{- range $what := list "recipes" "profiles" }}
{{- if index $root.Values $what }}
{{- $arguments = append $arguments (printf "--%s=/etc/opportune/%s" $what $what) }}
{{- $volumes = append $volumes (dict "name" $what "configMap" (dict "name" (printf "opportune-%s" $what))) }}
{{- $mounts = append $mounts (dict "name" $what "mountPath" (printf "/etc/opportune/%s" $what) "readOnly" true) }}
{{- end }}
{{- end }}
{{- $arguments = append $arguments (printf "--log=%s" $root.Values.log.level) }}
{{- $arguments = append $arguments (printf "--log-format=%s" $root.Values.log.format) }}
{{- $selector := include "opportune.selector" (dict "root" $root "role" .role) | fromYaml -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: opportune-{{ .role }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "opportune.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  replicas: {{ $values.replicas }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- toYaml $selector | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      # A new replica is there before an old one goes.
      maxUnavailable: 0
      maxSurge: 1
  template:
    metadata:
      labels:
        {{- toYaml $selector | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: opportune
        {{- if or $root.Values.recipes $root.Values.profiles }}
        # Recipes and profiles are read at start: changed ones mean new pods.
        opportune.libre.sh/data-checksum: {{ dict "recipes" $root.Values.recipes "profiles" $root.Values.profiles | toJson | sha256sum }}
        {{- end }}
        {{- if and $isWebhook $root.Values.clientCA }}
        # The same for the authority of the clients.
        opportune.libre.sh/client-ca-checksum: {{ $root.Values.clientCA | sha256sum }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: opportune-{{ .role }}
      # Both roles ask the API server; their ServiceAccounts give no token to any other pod.
      automountServiceAccountToken: true
      # No variables with the addresses of other Services: nothing here reads them.
      enableServiceLinks: false
      # 5 s until every node forgot this replica, 15 s for requests in flight, and a margin.
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        {{- if eq $root.Values.tls.mode "cert-manager" }}
        # The mounted key belongs to root and is readable by this group.
        fsGroup: 65532
        {{- end }}
        seccompProfile:
          type: RuntimeDefault
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- with $values.topologySpreadConstraints }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        # On a cluster of one node both replicas still start.
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- toYaml $selector | nindent 14 }}
        {{- end }}
      containers:
        - name: opportune
          image: {{ include "opportune.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            {{- concat $arguments $values.extraArgs | toYaml | nindent 12 }}
          {{- with $values.extraEnv }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- if $isWebhook }}
            - name: webhook
              containerPort: {{ $values.port }}
            {{- end }}
            - name: admin
              containerPort: 9090
          livenessProbe:
            httpGet: {path: /healthz, port: admin}
            periodSeconds: 10
            timeoutSeconds: 5
            # A restart helps only where nothing answers any more: rather late than wrong.
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 3
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          {{- with $mounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with $volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
