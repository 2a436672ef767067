#!/usr/bin/env bash
# Prints the memory (proportional set size) and CPU share of a running product's processes: benchmarks/idle.sh [SECONDS]
# Start `precis up` beforehand, and leave it idle for a minute.
set -euo pipefail
seconds=${1:-60}

ticks() { awk '{print $14 + $15}' "/proc/$1/stat" 2>/dev/null || echo 0; }

supervisor=$(pgrep -xo precis || true)
[ -n "$supervisor" ] || { echo "no running precis process found" >&2; exit 1; }
mapfile -t pids < <(pgrep -x 'precis|nats-server')

declare -A before
for pid in "${pids[@]}"; do before[$pid]=$(ticks "$pid"); done
sleep "$seconds"

hertz=$(getconf CLK_TCK)
for pid in "${pids[@]}"; do
  [ -r "/proc/$pid/smaps_rollup" ] || continue
  kib=$(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup")
  echo "$pid $kib $(($(ticks "$pid") - before[$pid])) $(tr '\0' ' ' <"/proc/$pid/cmdline")"
done | awk -v seconds="$seconds" -v hertz="$hertz" '
  { memory = $2 / 1024; cpu = 100 * $3 / hertz / seconds; total_memory += memory; total_cpu += cpu
    printf "%6.0f MB %6.2f %%  %s %s\n", memory, cpu, $4, $5 }
  END { printf "%6.0f MB %6.2f %%  total\n", total_memory, total_cpu }'
