#!/usr/bin/env bash
# Starts Phoenix from its pip package and Precis, submits jobs, and compares what Phoenix stores with what was sent: spans,
# texts, times, token counts, vectors, scores. Takes about two minutes; Phoenix takes 900 MB.
#
#   tests/phoenix/run.sh [PROGRAM]     PROGRAM: the `precis` command; built if omitted
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
home=$target/phoenix
if [ $# -gt 0 ]; then
  program=$1
else
  cargo build
  program=$target/debug/precis
fi
if [ ! -e "$home/installed" ]; then
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install --quiet arize-phoenix==20.26.1
  touch "$home/installed"
fi
exec "$home/venv/bin/python" tests/phoenix/check.py "$program"
