"""Runs Precis with Phoenix, and compares what Phoenix stores with what Precis sent.

Usage: check.py PROGRAM, in an environment with arize-phoenix. See run.sh.
"""

import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM = str(Path(sys.argv[1]).resolve())
REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = "precis-check"
SCORES = ["score_bleu", "score_rouge1", "score_rouge2", "score_rougeL"]
COLUMNS = {"score_bleu": "bleu", "score_rouge1": "rouge1", "score_rouge2": "rouge2", "score_rougeL": "rougeL"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read() or b"null")


def until(what, attempt, patience=180):
    give_up = time.monotonic() + patience
    while True:
        try:
            value = attempt()
        except (OSError, urllib.error.URLError) as error:
            value, what_else = None, error
        else:
            what_else = ""
        if value:
            return value
        if time.monotonic() > give_up:
            raise SystemExit(f"waited {patience} s until {what} {what_else}")
        time.sleep(0.5)


def plain(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read() or b"ok"


def phoenix(folder):
    port, grpc = free_port(), free_port()
    environment = {
        **os.environ,
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_AGENTS_DISABLE_BASH": "true",
        "PHOENIX_AGENTS_DISABLE_WEB_ACCESS": "true",
    }
    command = [sys.executable, str(Path(__file__).with_name("serve_loopback.py"))]
    log = open(folder / "phoenix.log", "wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return process, f"http://127.0.0.1:{port}"


def product(folder, phoenix_url):
    ports = {name: free_port() for name in ["api", "monitor", "clickhouse", "nats", "worker"]}
    settings = {
        "api.listen": f"127.0.0.1:{ports['api']}",
        "monitor.listen": f"127.0.0.1:{ports['monitor']}",
        "clickhouse.url": f"http://127.0.0.1:{ports['clickhouse']}",
        "nats.url": f"nats://127.0.0.1:{ports['nats']}",
        "worker.admin_listen": f"127.0.0.1:{ports['worker']}",
        "standalone.data_dir": str(folder / "data"),
        "worker.embeddings": "both",
        "phoenix.url": phoenix_url,
        "phoenix.project": PROJECT,
    }
    command = [PROGRAM, "up"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    log = open(folder / "precis.log", "wb")
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    return process, {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}


def spans_of(phoenix_url):
    spans = call(f"{phoenix_url}/v1/projects/{PROJECT}/spans?limit=200")["data"]
    return {(span["attributes"].get("metadata.prediction_id"), span["span_kind"]): span for span in spans}, spans


def equal(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: Phoenix has {found!r}, and {wanted!r} was sent")


def check(jobs, urls, phoenix_url):
    api = urls["api"]
    by_id, spans = spans_of(phoenix_url)
    for view, request in jobs:
        job = view["id"].split(".")[0]
        span = by_id[job, "LLM"]
        attributes = span["attributes"]
        equal("input", attributes["input.value"], request["text"])
        equal("output", attributes["output.value"], view["summary"])
        equal("model", attributes["llm.model_name"], view["model"]["name"])
        equal("prompt tokens", attributes["llm.token_count.prompt"], view["sizes"]["text_tokens"])
        equal("completion tokens", attributes["llm.token_count.completion"], view["sizes"]["summary_tokens"])
        equal("decode_ms", attributes["metadata.decode_ms"], view["timings"]["decode_ms"])
        equal("queue_ms", attributes["metadata.queue_ms"], view["timings"]["queue_ms"])
        equal("notes", attributes.get("metadata.notes.feed"), request.get("metadata", {}).get("feed"))
        instant = lambda text: text.replace("Z", "").replace("+00:00", "").rstrip("0").rstrip(".")
        equal("start", instant(span["start_time"]), instant(view["started_at"]))
        equal("end", instant(span["end_time"]), instant(view["finished_at"]))

        child = [one for one in spans if one["parent_id"] == span["context"]["span_id"]]
        equal("spans below", [one["span_kind"] for one in child], ["EMBEDDING"])
        vectors = vectors_of(urls, job)
        texts = [request["text"], view["summary"]]
        for index, (text, vector) in enumerate(zip(texts, vectors)):
            prefix = f"embedding.embeddings.{index}.embedding"
            equal("embedded text", child[0]["attributes"][f"{prefix}.text"], text)
            equal("vector", child[0]["attributes"][f"{prefix}.vector"], vector)

        found = annotations_of(phoenix_url, span)
        equal("scores", sorted(found), SCORES if "reference" in request else [])
        if "reference" in request:
            row = row_of(urls, job)
            equal_scores(found, row)
        print(f"{job}: span, {len(vectors)} vectors of {len(vectors[0])}, {len(found)} scores: equal")
    equal("spans", len(spans), 2 * len(jobs))
    assert call(f"{api}/v1/models")


def equal_scores(found, row):
    for name, column in COLUMNS.items():
        equal(name, found[name], row[column])


def check_late(view, urls, phoenix_url):
    """Sends a late reference and then a better one. The second replaces the annotations of the first on the same span."""
    job = view["id"].split(".")[0]
    span = spans_of(phoenix_url)[0][job, "LLM"]
    for reference in ["The harbour was open.", "The harbour stayed open and it rained."]:
        before = row_of(urls, job)["rouge1"]
        call(f"{urls['api']}/v1/jobs/{view['id']}/reference", {"reference": reference})
        until("the row has the reference", lambda: row_of(urls, job)["reference"] == reference)
        row = row_of(urls, job)
        assert row["rouge1"] != before, row["rouge1"]
        until(
            "Phoenix has its scores",
            lambda: annotations_of(phoenix_url, span).get("score_rouge1") == row["rouge1"],
        )
        found = annotations_of(phoenix_url, span)
        equal("scores", sorted(found), SCORES)
        equal_scores(found, row)
    print(f"{job}: two late references, the scores of the last: equal")


def annotations_of(phoenix_url, span):
    span_id = span["context"]["span_id"]
    url = f"{phoenix_url}/v1/projects/{PROJECT}/span_annotations?span_ids={span_id}&limit=100"
    return {one["name"]: one["result"]["score"] for one in call(url)["data"]}


def vectors_of(urls, job):
    """Returns the vectors of the stored result, read over NATS' plain protocol."""
    host, port = urls["nats"].removeprefix("http://").split(":")
    request = json.dumps({"last_by_subj": f"results.v1.{job}"})
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        stream = connection.makefile("rwb")
        stream.readline()
        stream.write(b'CONNECT {"verbose":false,"headers":true}\r\nSUB _INBOX.check 1\r\n')
        stream.write(f"PUB $JS.API.STREAM.MSG.GET.RESULTS _INBOX.check {len(request)}\r\n{request}\r\n".encode())
        stream.flush()
        while True:
            line = stream.readline().split()
            if line and line[0] == b"PING":
                stream.write(b"PONG\r\n")
                stream.flush()
            if line and line[0] == b"MSG":
                answer = json.loads(stream.read(int(line[-1])))
                break
    result = json.loads(base64.b64decode(answer["message"]["data"]))
    unpack = lambda text: list(struct.unpack(f"<{len(base64.b64decode(text)) // 4}f", base64.b64decode(text)))
    return [unpack(result["embeddings"][of]) for of in ("document", "summary")]


def row_of(urls, job):
    query = f"SELECT * FROM predictions WHERE job_id = '{job}' FORMAT JSON"
    url = f"{urls['clickhouse']}/?database=precis"

    def attempt():
        request = urllib.request.Request(url, query.encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())["data"]

    return until("the row is there", attempt)[0]


def main():
    folder = Path(tempfile.mkdtemp(prefix="precis-phoenix-"))
    processes = []
    try:
        server, phoenix_url = phoenix(folder)
        processes.append(server)
        running, urls = product(folder, phoenix_url)
        processes.append(running)
        until("Phoenix is up", lambda: plain(f"{phoenix_url}/healthz"))
        until("the product is up", lambda: plain(f"{urls['api']}/readyz"), 600)
        until("a worker is there", lambda: call(f"{urls['api']}/v1/models").get("models"))
        article = (REPOSITORY / "samples/storm-ingrid-coast.txt").read_text()
        requests = [
            {"text": article, "reference": "A storm hit the coast.", "metadata": {"feed": "7"}},
            {"text": "The harbour stayed open é ✅. Rain fell on the coast all day long."},
        ]
        prefer = {"prefer": "wait=100"}
        jobs = [(call(f"{urls['api']}/v1/summaries", body, prefer), body) for body in requests]
        forbidden = {"text": "Nobody else sees this.", "send_to_arize": False}
        call(f"{urls['api']}/v1/summaries", forbidden, prefer)
        wanted = {view["id"].split(".")[0] for view, _ in jobs}
        until("Phoenix has the spans", lambda: wanted <= {job for job, _ in spans_of(phoenix_url)[0]})
        span = spans_of(phoenix_url)[0][jobs[0][0]["id"].split(".")[0], "LLM"]
        until("Phoenix has the scores", lambda: len(annotations_of(phoenix_url, span)) == 4)
        check(jobs, urls, phoenix_url)
        check_late(jobs[1][0], urls, phoenix_url)
        print("Phoenix has what was sent.")
    except BaseException:
        print(f"logs: {folder}", file=sys.stderr)
        raise
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


main()
