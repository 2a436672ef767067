#!/usr/bin/env bash
# Checks the files that deploy Precis, and lists what it checked and what it could not.
#   deploy/check.sh --quick   the part that every change must pass (.ci/run)
#   deploy/check.sh           also the slower validators, and the images around the binary PRECIS_BINARY
#   deploy/check.sh --update  writes the chart's table of values
# Validators are installed once, at pinned versions, into the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false update=false
case "${1:-}" in
  --quick) quick=true ;;
  --update) update=true ;;
  "") ;;
  *) echo "usage: $0 [--quick | --update]" >&2; exit 64 ;;
esac

cache="${PRECIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/precis}/deploy-check"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
passed=() failed=() missing=()

# check NAME COMMAND…: runs a validator.
check() {
  local name="$1"
  shift
  printf '\n-- %s\n' "$name"
  if "$@"; then passed+=("$name"); else failed+=("$name"); fi
}

# absent NAME REASON: records a check that cannot run here.
absent() {
  printf '\n-- %s: not run: %s\n' "$1" "$2"
  missing+=("$1 ($2)")
}

# have COMMAND…: succeeds if every command exists.
have() {
  local tool
  for tool; do command -v "$tool" >/dev/null || return 1; done
}

# venv NAME OPTION…: prints the folder of a virtual environment with the packages of deploy/check/NAME.txt.
venv() {
  local list="deploy/check/$1.txt" folder
  shift
  folder="$cache/$(sha256sum "$list" | cut -c1-16)"
  if [ ! -e "$folder/complete" ]; then
    python3 -m venv --clear "$folder" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" --requirement "$list" >&2
    touch "$folder/complete"
  fi
  echo "$folder/bin"
}

mapfile -t scripts < <(git grep -lE '^#!.*\b(ba)?sh\b' -- . ':!*.md')
mapfile -t dockerfiles < <(git ls-files '*Dockerfile')

bin="$(venv quick --require-hashes --only-binary :all:)"
if $update; then
  exec "$bin/python" deploy/check/chart.py deploy/helm/precis --update
fi
check "shell scripts: shellcheck" "$bin/shellcheck" "${scripts[@]}"
check "Dockerfiles: hadolint" "$bin/hadolint" --config deploy/check/hadolint.yaml "${dockerfiles[@]}"
check "install.sh: checksums" deploy/check/install.sh
check "docker-compose.yml: compose schema" "$bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml
check "docker-compose.yml: references" "$bin/python" deploy/check/compose.py docker-compose.yml
check "workflows: schema" "$bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
check "dependabot.yml: schema" "$bin/check-jsonschema" --builtin-schema vendor.dependabot .github/dependabot.yml
check "workflows: zizmor" "$bin/zizmor" --offline --quiet .github

# Helm reports each linked file on standard error.
chart() { "$bin/python" deploy/check/chart.py deploy/helm/precis "$work" 2> >(grep -v 'symbolic link' >&2); }
check "chart: lint, render and references" chart
kubernetes() { "$bin/kubernetes-validate" --quiet --strict --kubernetes-version 1.31 "$work"/*.yaml; }
check "chart: Kubernetes 1.31 schemas" kubernetes
check "chart: KEDA and Prometheus operator" "$bin/check-jsonschema" \
  --schemafile deploy/check/custom-resources.schema.json "$work"/custom/*.yaml

if ! $quick; then
  full="$(venv full)"
  check "chart: checkov" "$full/checkov" --config-file deploy/check/checkov.yaml --framework kubernetes --directory "$work"
  check "Dockerfiles: checkov" "$full/checkov" --config-file deploy/check/checkov.yaml --framework dockerfile \
    --file "${dockerfiles[@]}"
  check "workflows: checkov" "$full/checkov" --config-file deploy/check/checkov.yaml --framework github_actions \
    --directory .

  check "Lambda: cfn-lint" "$full/cfn-lint" --template deploy/lambda/template.yaml
  check "Lambda: SAM transform" "$full/python" deploy/check/sam.py deploy/lambda/template.yaml

  # Debian's package holds promtool. It need not be installed.
  promtool="$(command -v promtool || echo "$cache/promtool/usr/bin/promtool")"
  if [ ! -x "$promtool" ] && have apt-get dpkg; then
    (mkdir -p "$cache/promtool" && cd "$cache/promtool" && apt-get download prometheus && dpkg -x prometheus_*.deb .) || true
  fi
  if [ -x "$promtool" ]; then
    check "Prometheus: configuration" "$promtool" check config deploy/prometheus/prometheus.yml
    check "Prometheus: tests of the alerts" "$promtool" test rules deploy/prometheus/alerts.test.yml
    "$bin/python" deploy/check/dashboards.py rules deploy/grafana/dashboards/*.json >"$work/dashboards.rules.yml"
    check "Grafana: PromQL of the panels" "$promtool" check rules "$work/dashboards.rules.yml"
  else
    absent "Prometheus: configuration, alerts, PromQL of the panels" "no promtool, and no apt-get to fetch it"
  fi

  if [ "$(id -u)" = 0 ] && have buildah podman mmdebstrap && [ -n "${PRECIS_BINARY:-}" ]; then
    check "images: build and run" deploy/check/images.sh
  else
    absent "images: build and run" "needs root, buildah, podman, mmdebstrap and PRECIS_BINARY"
  fi
  absent "Grafana: dashboards in Grafana" "no package of Grafana"
  absent "chart: installation" "needs a cluster"
fi

printf '\npassed:\n'
printf '  %s\n' "${passed[@]}"
[ ${#missing[@]} = 0 ] || { printf 'not run:\n'; printf '  %s\n' "${missing[@]}"; }
if [ ${#failed[@]} != 0 ]; then
  printf 'failed:\n'
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
