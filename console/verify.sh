#!/usr/bin/env bash
# Checks the console: its types against the OpenAPI document, then every screen in Chromium on a real product.
# Needs npm and Chromium ($PRECIS_CHROMIUM or on the path). `--types` checks the types only.
set -euo pipefail
cd "$(dirname "$0")"

npm install --silent --ignore-scripts --no-audit --no-fund --no-package-lock
npx openapi-typescript ../schemas/openapi.json --output types/openapi.d.ts >/dev/null
npx tsc --project .
echo "types: ok"
[ "${1:-}" = --types ] && exit

(cd .. && cargo build --bin precis)
node --test --test-concurrency=1 tests/
