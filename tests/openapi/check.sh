#!/usr/bin/env bash
# Validates schemas/openapi.json and calls a running gateway with random requests. Fails on a 5xx response, and on a
# status, media type or body that the document does not describe.
#
#   tests/openapi/check.sh [URL [EXAMPLES]]      default: http://127.0.0.1:8000, 50 calls per operation and phase
#
# Some calls wait for jobs that do not exist: start the gateway with `--set limits.max_wait_seconds=2`. Routes that return
# summaries may take `api.sync_wait_seconds`.
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
