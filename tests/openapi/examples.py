#!/usr/bin/env python3
"""Calls every operation of schemas/openapi.json on a running gateway with curl, and writes the calls with their
responses into docs/reference/rest.md.

    tests/openapi/examples.py [URL]            default: http://127.0.0.1:8000, as `precis up` serves it

Needs curl 7.82 or later (`--json`). Fails if an operation has no call, or a response has an unexpected status.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "rest.md"
BEGIN = "<!-- written by tests/openapi/examples.py: begin -->"
END = "<!-- written by tests/openapi/examples.py: end -->"
LONGEST = 330
"""Longest response that is shown in full, in characters."""

RAIN = "Rain fell over the hills all night. The river rose."
LONG = '"params": {"min_new_tokens": 300, "max_new_tokens": 300, "num_beams": 8, "first_sentence": false}'
SLOW = '"params": {"min_new_tokens": 500, "max_new_tokens": 500, "num_beams": 64, "first_sentence": false}'

# Operation, expected status, call, and values of the response for later calls: {name: path into the JSON}. `$P` is the
# address; `{name}` is replaced by an earlier value. Some calls only prepare the next one.
CALLS = [
    ("GET /", 200, "curl $P/", {}),
    ("GET /v1/models", 200, "curl $P/v1/models", {}),
    ("POST /v1/summaries", 200, f"""curl $P/v1/summaries -H 'prefer: wait=30' --json '{{"text": "{RAIN}"}}'""", {"done": "id"}),
    ("POST /v1/summaries", 202, f"""curl $P/v1/summaries --json '{{"texts": ["{RAIN}", "Snow lay on the pass until April. The road was closed for weeks."]}}'""", {}),
    (
        "POST /v1/summaries",
        202,
        f"""curl $P/v1/summaries -H 'idempotency-key: "{{unique}}"' --json '{{"text": "{RAIN}", {LONG}}}'""",
        {"job": "id"},
    ),
    ("GET /v1/jobs/{id}/events", 200, "curl $P/v1/jobs/{job}/events", {}),
    ("GET /v1/jobs/{id}", 200, "curl '$P/v1/jobs/{done}?wait=30'", {}),
    ("POST /v1/summaries", 202, f"""curl $P/v1/summaries --json '{{"text": "{RAIN}", {SLOW}}}'""", {"slow": "id"}),
    ("DELETE /v1/jobs/{id}", 200, "curl -X DELETE $P/v1/jobs/{slow}", {}),
    (
        "POST /v1/jobs/{id}/reference",
        202,
        """curl $P/v1/jobs/{done}/reference --json '{"reference": "It rained all night."}'""",
        {},
    ),
    (
        "POST /v1/scores",
        200,
        """curl $P/v1/scores --json '{"pairs": [{"summary": "Rain fell all night.", "reference": "It rained all night."}]}'""",
        {"scores": "id"},
    ),
    ("GET /v1/scores/{id}", 200, "curl $P/v1/scores/{scores}", {}),
    (
        "POST /v1/batches",
        202,
        f"""curl $P/v1/batches -H 'content-type: application/x-ndjson' -d '{{"article": "{RAIN}", "summ": "It rained."}}'""",
        {"batch": "id"},
    ),
    ("GET /v1/batches/{id}", 200, "curl $P/v1/batches/{batch}", {}),
    ("GET /v1/batches/{id}/results", 200, "curl '$P/v1/batches/{batch}/results?format=csv'", {}),
    ("DELETE /v1/batches/{id}", 200, "curl -X DELETE $P/v1/batches/{batch}", {}),
    ("GET /v1/analytics", 200, "curl $P/v1/analytics", {}),
    ("GET /v1/analytics/{query}", 200, "curl '$P/v1/analytics/slowest?limit=2&format=csv'", {}),
    ("GET /v1/predictions", 200, "curl '$P/v1/predictions?q=river&limit=1'", {}),
    ("GET /v1/predictions/count", 200, "curl '$P/v1/predictions/count?from=now-7d&outcome=failed'", {}),
    ("POST /v1/predictions/resubmit", 202, "curl -X POST '$P/v1/predictions/resubmit?from=now-1h&q=river&limit=1'", {}),
    ("GET /v1/predictions/{id}", 200, "curl $P/v1/predictions/{done}", {}),
    ("GET /v1/jobs", 200, "curl '$P/v1/jobs?lane=bulk&limit=1'", {}),
    ("POST /v1/jobs/cancel", 200, "curl -X POST '$P/v1/jobs/cancel?lane=bulk&q=no+such+text'", {}),
    ("GET /v1/queue", 200, "curl $P/v1/queue", {}),
    ("GET /v1/status", 200, "curl $P/v1/status", {}),
    ("GET /v1/configuration", 200, "curl $P/v1/configuration", {}),
    ("POST /v1/sample-history", 200, "curl -X POST $P/v1/sample-history", {}),
    ("GET /v1/sample-history", 200, "curl $P/v1/sample-history", {}),
    ("DELETE /v1/sample-history", 200, "curl -X DELETE $P/v1/sample-history", {}),
    ("GET /v1/dead-letters", 200, "curl '$P/v1/dead-letters?limit=1'", {}),
    ("GET /v1/dead-letters/{sequence}", 404, "curl $P/v1/dead-letters/1000000", {}),
    ("POST /v1/dead-letters/{sequence}/replay", 404, "curl -X POST $P/v1/dead-letters/1000000/replay", {}),
    ("DELETE /v1/dead-letters/{sequence}", 204, "curl -X DELETE $P/v1/dead-letters/1000000", {}),
    ("POST /article/summarize", 200, f"""curl $P/article/summarize --json '{{"article": "{RAIN}"}}'""", {}),
    (
        "POST /article/summarize",
        200,
        f"""curl $P/article/summarize --json '{{"article": {{"article": "{RAIN}"}}, "config": {{"num_beans": 8, "temperature": 1}}}}'""",
        {},
    ),
    (
        "POST /article/summarize_batch",
        200,
        f"""curl $P/article/summarize_batch --json '{{"articles": ["{RAIN}", "Snow lay on the pass until April. The road was closed for weeks."]}}'""",
        {},
    ),
    (
        "POST /model/score",
        200,
        f"""curl $P/model/score --json '{{"articles": ["{RAIN}"], "targets": ["It rained all night."]}}'""",
        {},
    ),
    (
        "POST /online-predict",
        200,
        f"""curl $P/online-predict -H 'content-type: application/json' -d '{{"article": "{RAIN}", "num_beans": 10, "temperature": 1.0}}'""",
        {},
    ),
    ("POST /batch-predict", 200, f"""curl $P/batch-predict --json '{{"articles": ["{RAIN}"], "num_beans": 5}}'""", {}),
    (
        "POST /score",
        200,
        f"""curl $P/score --json '{{"articles": ["{RAIN}"], "targets": ["It rained all night."]}}'""",
        {},
    ),
    (
        "POST /invocations",
        200,
        f"""curl $P/invocations --json '{{"dataframe_split": {{"columns": ["article"], "data": [["{RAIN}"]]}}}}'""",
        {},
    ),
    ("POST /invocations", 200, f"""curl $P/invocations --json '{{"articles": ["{RAIN}"]}}'""", {}),
    ("GET /ping", 200, "curl $P/ping", {}),
    ("GET /health", 200, "curl $P/health", {}),
    ("GET /version", 200, "curl $P/version", {}),
    (
        "POST /endpoints/{name}/invocations",
        200,
        f"""curl $P/endpoints/summarizer/invocations --json '{{"articles": ["{RAIN}"]}}'""",
        {},
    ),
    (
        "POST /endpoints/{name}/invocations-response-stream",
        200,
        f"""curl $P/endpoints/summarizer/invocations-response-stream --json '{{"articles": ["{RAIN}"]}}'""",
        {},
    ),
    ("POST /v1/summaries", 400, """curl $P/v1/summaries --json '{"text": 7}'""", {}),
    ("GET /errors", 200, "curl $P/errors", {}),
    ("GET /errors/{code}", 200, "curl $P/errors/queue_full", {}),
    ("GET /healthz", 200, "curl $P/healthz", {}),
    ("GET /readyz", 200, "curl $P/readyz", {}),
    ("GET /metrics", 200, "curl $P/metrics", {}),
    ("GET /openapi.json", 200, "curl $P/openapi.json", {}),
    ("GET /docs", 200, "curl $P/docs", {}),
    ("GET /docs/{file}", 200, "curl $P/docs/swagger-ui.css", {}),
    ("GET /console/{file}", 200, "curl $P/console/theme.js", {}),
    ("GET /console/{folder}/{file}", 200, "curl $P/console/samples/articles.jsonl", {}),
]

INTRODUCTION = f"""\
These calls and responses come from a gateway that `precis up` started. Responses longer than {LONGEST} characters are cut
(`…`). `P` is the gateway's address, for example `http://127.0.0.1:8000`. `tests/openapi/examples.py` writes this table.

| route | call | status | response |
| --- | --- | --- | --- |
"""


def operations():
    """Yields every operation of the document as `METHOD /path`."""
    document = json.loads((ROOT / "schemas" / "openapi.json").read_text())
    for path, methods in document["paths"].items():
        for method in methods:
            yield f"{method.upper()} {path}"


def run(call, url):
    """Runs a call. Returns the status, content type and body."""
    with tempfile.NamedTemporaryFile() as body:
        command = call.replace("$P", url)
        more = f" --silent --show-error --max-time 120 --output {shlex.quote(body.name)} --write-out '%{{http_code}} %{{content_type}}'"
        done = subprocess.run(["sh", "-c", command + more], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{call}\n{done.stderr}")
        status, _, content_type = done.stdout.partition(" ")
        return int(status), content_type, Path(body.name).read_bytes()


def shown(content_type, body):
    """Formats a response as a table cell."""
    try:
        text = body.decode()
        if "\0" in text:
            raise UnicodeError
    except UnicodeError:
        return f"{len(body)} bytes of `{content_type}`"
    if not text.strip():
        return "an empty line" if text else "nothing"
    if len(text) > LONGEST:
        text = text[:LONGEST].rstrip() + " …"
    return "<br>".join(code(line) for line in text.strip().splitlines() if line)


def code(text):
    """Formats code as a table cell."""
    text = text.replace("|", "\\|")
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    if longest == 0:
        return f"`{text}`"
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}"


def part(value, path):
    """Returns the value at a path such as `a.0.b` in a JSON response."""
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() else value[step]
    return value


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    missing = set(operations()) - {operation for operation, *_ in CALLS}
    if missing:
        sys.exit(f"missing calls: {', '.join(sorted(missing))}")
    kept = {"unique": f"example-{time.time_ns()}"}
    worker = None
    rows = []
    for operation, expected, call, keep in CALLS:
        for name, value in kept.items():
            call = call.replace("{" + name + "}", value)
        status, content_type, body = run(call, url)
        if status != expected:
            sys.exit(f"{call}\nexpected status {expected}, got {status}: {body[:2000].decode(errors='replace')}")
        for name, path in keep.items():
            kept[name] = part(json.loads(body), path)
        # The default worker id contains the host name, so the page shows a fixed one.
        found = re.search(rb'"worker":\{"id":"([^"]+)"', body)
        worker = found[1] if found else worker
        if worker:
            body = body.replace(worker, b"worker-1")
        rows.append(f"| `{operation}` | {code(call)} | {status} | {shown(content_type, body)} |\n")
        print(f"{status} {operation}")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{INTRODUCTION}{''.join(rows)}{END}{after}")


main()
