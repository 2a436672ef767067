#!/usr/bin/env bash
# Starts Phoenix from its pip package and the product beside it, submits jobs, and compares what Phoenix gives back with
# what was sent: spans, texts, times, token counts, vectors, scores. Takes about two minutes, and 900 MB for Phoenix.
#
#   tests/phoenix/run.sh [PROGRAM]     PROGRAM: the `precis` command; without one it is built
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
