#!/usr/bin/env bash
# Fuzzes the kernels, the only places with `unsafe`, under AddressSanitizer: crates/engine/fuzz/run.sh [SECONDS for each target].
# Needs a nightly compiler, a C++ compiler, and cargo-fuzz (cargo install cargo-fuzz).
set -euo pipefail
cd "$(dirname "$0")/.."
for target in products attention; do
    cargo +nightly fuzz run "$target" -- -max_total_time="${1:-60}" -max_len=4096 -print_final_stats=1
done
