#!/usr/bin/env bash
# Creates the environment and models for `precis bench engine --peers`, once, in .local/peers (or PRECIS_PEERS_DIR).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${PRECIS_PEERS_DIR:-$here/../../.local/peers}
mkdir -p "$target"
if ! cmp -s "$here/requirements.txt" "$target/installed.txt"; then
    python3 -m venv "$target/venv"
    "$target/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$target/installed.txt"
fi
"$target/venv/bin/python" "$here/models.py" "$target/models"
echo "ready: $target"
