#!/usr/bin/env bash
# Builds the images of deploy/Dockerfile around a given binary, and runs the roles in them as docker-compose.yml does:
# without root, without capabilities, on a read-only file system. `precis up` provides NATS and ClickHouse.
#   PRECIS_BINARY=target/release/precis deploy/check/images.sh
# Needs root, and Debian's buildah, podman, runc and mmdebstrap. The binary must run on Debian 12. The stages that compile
# it and install the console's libraries are not built, because their base images are in registries only.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary="$(realpath "${PRECIS_BINARY:?}")"

cache="${PRECIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/precis}/deploy-check"
work="$(mktemp -d)"
mkdir -p "$cache" "$work/binary" "$work/secrets" "$work/models"
cp "$binary" "$work/binary/precis"
(cd "$work" && "$binary" install console >/dev/null)

cat >"$work/storage.conf" <<END
[storage]
driver = "overlay"
runroot = "$work/run"
graphroot = "$work/storage"
END
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
END
export CONTAINERS_STORAGE_CONF="$work/storage.conf" CONTAINERS_CONF="$work/containers.conf"

names=()
servers=()
stop() {
  local status=$?
  if [ $status != 0 ]; then
    for name in "${names[@]}"; do podman logs --tail 20 "$name" || true; done
    tail -20 "$work"/*.log || true
  fi
  podman rm --force --all --time 5 >/dev/null 2>&1 || true
  for server in "${servers[@]}"; do kill -INT "$server" 2>/dev/null && wait "$server" || true; done
  umount "$work/storage/overlay" 2>/dev/null || true
  rm -rf "$work"
  exit $status
}
trap stop EXIT

# A base image without a registry.
base="$cache/bookworm.tar"
if [ ! -e "$base" ]; then
  mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$base.part"
  mv "$base.part" "$base"
fi
podman import --quiet "$base" docker.io/library/debian:bookworm-slim >/dev/null

for target in api worker monitor producer lambda sagemaker precis; do
  buildah bud --quiet --isolation=chroot --layers --pull=never --format docker \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro --file deploy/Dockerfile --build-context "binary=$work/binary" \
    --build-context "console=$work/.local/console" \
    --target "$target" --tag "localhost/precis-$target:test" . >/dev/null
  echo "built precis-$target: $(podman image inspect --format '{{.Size}}' "localhost/precis-$target:test") bytes"
done

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
nats="$(free_port)" clickhouse="$(free_port)" api="$(free_port)" worker="$(free_port)" monitor="$(free_port)"
"$binary" up --data-dir "$work/data" --set "nats.url=nats://127.0.0.1:$nats" \
  --set "clickhouse.url=http://127.0.0.1:$clickhouse" --set "api.listen=127.0.0.1:$(free_port)" \
  --set standalone.workers=0 --set standalone.start_monitor=false >"$work/up.log" 2>&1 &
servers+=($!)
touch "$work/up.log"
for _ in $(seq 120); do
  ! grep -q "Precis is up" "$work/up.log" || break
  sleep 1
done

# One setting as a secret, as Docker and Kubernetes mount it.
echo "nats://127.0.0.1:$nats" >"$work/secrets/nats.url"
chown -R 10001:10001 "$work/secrets" "$work/models"
chmod 711 "$work"

# container NAME OPTION…: runs precis-NAME.
container() {
  local name="$1"
  shift
  names+=("$name")
  podman run --detach --name "$name" --network host --no-healthcheck --read-only --tmpfs /tmp --cap-drop ALL \
    --security-opt no-new-privileges --volume "$work/secrets:/run/precis-secrets:ro" \
    --env PRECIS_SECRETS_DIR=/run/precis-secrets --env PRECIS__ACCESS__INSECURE=true \
    --env "PRECIS__CLICKHOUSE__URL=http://127.0.0.1:$clickhouse" --env "PRECIS__API__LISTEN=127.0.0.1:$api" \
    --env "PRECIS__WORKER__ADMIN_LISTEN=127.0.0.1:$worker" --env "PRECIS__MONITOR__LISTEN=127.0.0.1:$monitor" \
    "$@" "localhost/precis-$name:test" >/dev/null
}
container monitor
container api
container worker --volume "$work/models:/var/lib/precis/models"

for name in "${names[@]}"; do
  for _ in $(seq 120); do
    ! podman exec "$name" precis healthcheck "$name" 2>/dev/null || break
    sleep 1
  done
  podman exec "$name" precis healthcheck "$name"
  [ "$(podman exec "$name" id -u)" = 10001 ]
  if podman exec "$name" touch /var/lib/precis/file 2>/dev/null; then
    echo "$name: the root file system is not read-only"
    exit 1
  fi
  echo "$name: ready, as user 10001, on a read-only file system"
done
podman exec worker touch /var/lib/precis/models/file

page="$(curl --fail --silent --show-error -H 'accept: text/html' "http://127.0.0.1:$api/")"
grep -q 'src="/console/app.js"' <<<"$page"
grep -o '/console/lib/[^"]*' <<<"$page" | while IFS= read -r library; do
  curl --fail --silent --show-error --output /dev/null "http://127.0.0.1:$api$library"
done
echo "the gateway serves the console with its libraries"

text="The harbour bridge will close for repairs on Monday, the city said. Ferries will run every ten minutes."
summary="$(curl --fail --silent --show-error --max-time 120 -H 'content-type: application/json' -H 'prefer: wait=100' \
  --data "{\"text\": \"$text\"}" "http://127.0.0.1:$api/v1/summaries")"
grep -q '"status":"succeeded"' <<<"$summary"
echo "summarized: $(grep -o '"summary":"[^"]*"' <<<"$summary" | head -1)"

# A CronJob of the producer.
podman run --rm --interactive --network host --no-healthcheck --read-only --cap-drop ALL \
  --volume "$work/secrets:/run/precis-secrets:ro" --env PRECIS_SECRETS_DIR=/run/precis-secrets \
  localhost/precis-producer:test publish - <<<"$text"

for _ in $(seq 60); do
  rows="$(curl --fail --silent "http://127.0.0.1:$api/v1/analytics/recent" | grep -o '"job_id"' | wc -l)"
  [ "$rows" -lt 2 ] || break
  sleep 1
done
[ "$rows" -ge 2 ]
echo "the monitor stored $rows rows"

# Debian's Prometheus, if it is there, reads the metrics of the containers.
prometheus="$(command -v prometheus || echo "$cache/promtool/usr/bin/prometheus")"
if [ -x "$prometheus" ]; then
  web="$(free_port)"
  {
    echo 'global: {scrape_interval: 2s}'
    echo "rule_files: [$PWD/deploy/prometheus/alerts.yml]"
    echo 'scrape_configs:'
    for role in "api $api" "worker $worker" "monitor $monitor"; do
      echo "  - {job_name: precis-${role% *}, static_configs: [{targets: ['127.0.0.1:${role#* }']}]}"
    done
  } >"$work/prometheus.yml"
  "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="127.0.0.1:$web" >"$work/prometheus.log" 2>&1 &
  servers+=($!)
  # Rates need several scrapes.
  sleep 20
  python3 deploy/check/dashboards.py query "http://127.0.0.1:$web" deploy/grafana/dashboards/operations.json
fi

for name in "${names[@]}"; do
  podman stop --time 45 "$name" >/dev/null
  [ "$(podman inspect --format '{{.State.ExitCode}}' "$name")" = 0 ]
done
echo "every container stopped with status 0"

port="$(free_port)"
names+=(sagemaker)
podman run --detach --name sagemaker --network host --no-healthcheck --cap-drop ALL --env "SAGEMAKER_BIND_TO_PORT=$port" \
  localhost/precis-sagemaker:test serve >/dev/null
for _ in $(seq 60); do
  ! curl --fail --silent "http://127.0.0.1:$port/ping" >/dev/null || break
  sleep 1
done
curl --fail --silent --show-error --max-time 120 -H 'content-type: application/json' --data "{\"articles\": [\"$text\"]}" \
  "http://127.0.0.1:$port/invocations" >/dev/null
echo "the SageMaker container answers /ping and /invocations"
