#!/usr/bin/env bash
# Builds for a GPU, compares its summaries with those of the CPU in f32, and measures both. Needs a machine with a GPU.
#   benchmarks/gpu/verify.sh cuda|metal [MODEL]
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:?cuda or metal}
model=${2:-embedded}
cargo build --release --locked --features "$device"
target/release/precis bench quality --model "$model" --device cpu --json
target/release/precis bench quality --model "$model" --device "$device" --json
