#!/usr/bin/env bash
# Checks that install.sh installs a release, and refuses one with the wrong checksum.
set -euo pipefail
cd "$(dirname "$0")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for target in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin; do
  mkdir -p "$work/latest/download" "$work/precis-$target"
  printf '#!/bin/sh\necho precis 0.0.0\n' >"$work/precis-$target/precis"
  tar -czf "$work/latest/download/precis-$target.tar.gz" -C "$work" "precis-$target"
done
(cd "$work/latest/download" && sha256sum precis-*.tar.gz >SHA256SUMS)
export PRECIS_RELEASES="file://$work" PRECIS_INSTALL_DIR="$work/bin"

./install.sh
[ "$("$work/bin/precis")" = "precis 0.0.0" ]

rm "$work/bin/precis"
for archive in "$work"/latest/download/*.tar.gz; do echo >>"$archive"; done
if ./install.sh 2>/dev/null || [ -e "$work/bin/precis" ]; then
  echo "install.sh accepts an archive with the wrong checksum"
  exit 1
fi
