#!/usr/bin/env bash
# Validates schemas/openapi.json, and calls a running gateway at random by it: nothing may be answered with a 5xx, with
# a status or media type that the document doesn't name, or in another shape.
#
#   tests/openapi/check.sh [URL [EXAMPLES]]      default: http://127.0.0.1:8000, 50 calls of each operation and phase
#
# A call that waits for a job that never comes takes as long as it may: start the product with
# `--set limits.max_wait_seconds=2`. Routes that answer with a summary may take `api.sync_wait_seconds`.
set -euo pipefail
cd "$(dirname "$0")/../.."
url=${1:-http://127.0.0.1:8000}
examples=${2:-50}
venv=.local/openapi-venv
if ! "$venv/bin/python" -c 'import schemathesis, openapi_spec_validator' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement tests/openapi/requirements.txt
fi
"$venv/bin/openapi-spec-validator" schemas/openapi.json
"$venv/bin/schemathesis" run schemas/openapi.json --url "$url" --max-examples "$examples" --seed 1 --request-timeout 90 \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method
