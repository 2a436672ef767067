#!/usr/bin/env bash
# Compares Precis with independent computations: scores with rouge-score and sacrebleu, sentence boundaries with NLTK,
# tables with MLflow's scoring server, and every analytic query with a recount of the rows in Python. Also runs
# ClickHouse's own clients. Starts a product of its own. Takes a few minutes.
#
#   tests/peers/run.sh [PROGRAM]     PROGRAM: the `precis` command; built if omitted
#   ROWS=20000 WINDOWS=40 SEED=1     predictions, random windows of the recount, and seed of all random choices
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
home=$target/peers
if [ $# -gt 0 ]; then
  program=$1
else
  cargo build
  program=$target/debug/precis
fi
if ! cmp -s tests/peers/requirements.txt "$home/installed"; then
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install --quiet --requirement tests/peers/requirements.txt
  cp tests/peers/requirements.txt "$home/installed"
fi
exec "$home/venv/bin/python" tests/peers/check.py "$program"
