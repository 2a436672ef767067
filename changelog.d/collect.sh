#!/usr/bin/env bash
# Collects the changelog fragments into a new section of CHANGELOG.md, then deletes them: changelog.d/collect.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?usage: changelog.d/collect.sh VERSION}
shopt -s nullglob

section=$(mktemp)
trap 'rm -f "$section"' EXIT
printf '## %s (%s)\n' "$version" "$(date -u +%F)" >"$section"
for kind in added changed fixed; do
  fragments=(changelog.d/*."$kind".md)
  [ ${#fragments[@]} -gt 0 ] || continue
  printf '\n### %s\n\n' "${kind^}" >>"$section"
  for fragment in "${fragments[@]}"; do
    # The first line becomes the bullet; later lines are indented below it.
    sed -e '1s/^/* /' -e '2,$s/^/  /' "$fragment" >>"$section"
  done
done
[ "$(wc -l <"$section")" -gt 1 ] || { echo "changelog.d/ has no fragments" >&2; exit 1; }

# The new section goes below the marker.
marker='<!-- changelog.d/collect.sh adds releases below this line -->'
grep -qxF "$marker" CHANGELOG.md || { echo "CHANGELOG.md lacks the line: $marker" >&2; exit 1; }
awk -v marker="$marker" -v section="$section" '
  { print }
  $0 == marker { print ""; while ((getline line < section) > 0) print line }
' CHANGELOG.md >CHANGELOG.new
mv CHANGELOG.new CHANGELOG.md
rm -f changelog.d/*.added.md changelog.d/*.changed.md changelog.d/*.fixed.md
echo "CHANGELOG.md has a section for $version; review it and commit"
