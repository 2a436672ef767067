#!/bin/sh
# Installs the command `precis` of a release, after checking its SHA-256.
#   curl -fsSL https://github.com/precis-dev/precis/releases/latest/download/install.sh | sh
# PRECIS_VERSION chooses a release (v0.2.0), PRECIS_INSTALL_DIR the folder (default: ~/.local/bin).
set -eu

releases="${PRECIS_RELEASES:-https://github.com/precis-dev/precis/releases}"
folder="${PRECIS_INSTALL_DIR:-$HOME/.local/bin}"

case "$(uname -s) $(uname -m)" in
  "Linux x86_64") target=x86_64-unknown-linux-gnu ;;
  "Linux aarch64") target=aarch64-unknown-linux-gnu ;;
  "Darwin arm64") target=aarch64-apple-darwin ;;
  *)
    echo "error: no binary for $(uname -s) $(uname -m); build it with cargo: https://github.com/precis-dev/precis" >&2
    exit 1
    ;;
esac

if [ -n "${PRECIS_VERSION:-}" ]; then
  from="$releases/download/$PRECIS_VERSION"
else
  from="$releases/latest/download"
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
archive="precis-$target.tar.gz"
curl -fsSL --retry 3 -o "$work/$archive" "$from/$archive"
curl -fsSL --retry 3 -o "$work/SHA256SUMS" "$from/SHA256SUMS"

cd "$work"
grep " $archive\$" SHA256SUMS >wanted || {
  echo "error: $from/SHA256SUMS does not list $archive" >&2
  exit 1
}
if command -v sha256sum >/dev/null; then
  sha256sum -c wanted >/dev/null
else
  shasum -a 256 -c wanted >/dev/null
fi

tar -xzf "$archive"
mkdir -p "$folder"
install -m 755 "precis-$target/precis" "$folder/precis"
echo "installed $folder/precis"
case ":$PATH:" in
  *":$folder:"*) ;;
  *) echo "add $folder to PATH" ;;
esac
