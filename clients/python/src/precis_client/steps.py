"""Conversations with the gateway, without input and output: what both clients have in common.

A conversation is a generator. It yields a request, for which it gets the response or the error of the connection, or a
pause. Its return value is the result.
"""

import json
import random
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

import httpx

from .errors import JobFailed, NotFinished, PrecisError, Unreachable
from .models import BatchLine, BatchView, GenerationParams, JobView, Lane, ScorePair, ScoreReport

T = TypeVar("T")

LONG_POLL = 30.0
"""Most seconds that one request waits for a job."""
MAX_PAUSE = 8.0
_FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
_BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    seconds: float


Answer = httpx.Response | httpx.TransportError | None
Steps = Generator[Request | Pause, Answer, T]


def _retry_after(response: httpx.Response) -> float | None:
    """Returns the pause that a response asks for, in seconds."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def send(request: Request, patience: float) -> Steps[httpx.Response]:
    """Sends a request. Repeats it while the gateway is away or busy."""
    deadline = time.monotonic() + patience
    step = 0.25
    while True:
        answer = yield request
        pause = random.uniform(step / 2, step)
        if isinstance(answer, httpx.Response):
            if answer.is_success:
                return answer
            error = PrecisError.of(answer)
            if answer.status_code not in _BUSY:
                raise error
            pause = max(pause, _retry_after(answer) or 0.0)
        else:
            error = Unreachable(request.path, cast(Exception, answer))
        if time.monotonic() + pause > deadline:
            raise error
        yield Pause(pause)
        step = min(2 * step, MAX_PAUSE)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _body(values: Mapping[str, Any]) -> bytes:
    return json.dumps(_without_none(values)).encode()


def _key(given: str | None) -> str:
    # A repeated request must not become a second job.
    return given or uuid.uuid4().hex


@dataclass(frozen=True)
class Options:
    """What jobs have in common."""

    params: GenerationParams | None = None
    model: str | None = None
    priority: Lane | None = None
    ttl_seconds: int | None = None
    idempotency_key: str | None = None


def submit(
    text: str,
    options: Options,
    reference: str | None,
    metadata: Mapping[str, str] | None,
    wait: float,
    patience: float,
) -> Steps[JobView]:
    body = {
        "text": text,
        "reference": reference,
        "metadata": metadata,
        "params": options.params,
        "model": options.model,
        "priority": options.priority,
        "ttl_seconds": options.ttl_seconds,
    }
    headers = {"content-type": "application/json", "idempotency-key": _key(options.idempotency_key)}
    if wait >= 1:
        headers["prefer"] = f"wait={int(min(wait, LONG_POLL))}"
    response = yield from send(Request("POST", "/v1/summaries", _body(body), {}, headers), patience)
    return cast(JobView, response.json())


def job(id: str, wait: float, patience: float) -> Steps[JobView]:
    params = {"wait": str(int(min(wait, LONG_POLL)))} if wait >= 1 else {}
    response = yield from send(Request("GET", f"/v1/jobs/{id}", params=params), patience)
    return cast(JobView, response.json())


def finished(view: JobView, deadline: float, wait: float, patience: float) -> Steps[JobView]:
    """Waits until a job ends."""
    while view["status"] not in _FINAL:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotFinished(view["id"], wait)
        view = yield from job(view["id"], max(left, 1.0), patience)
    if view["status"] != "succeeded":
        raise JobFailed(view)
    return view


def summarize(
    text: str,
    options: Options,
    reference: str | None,
    metadata: Mapping[str, str] | None,
    wait: float,
    patience: float,
) -> Steps[JobView]:
    deadline = time.monotonic() + wait
    view = yield from submit(text, options, reference, metadata, wait, patience)
    return (yield from finished(view, deadline, wait, patience))


def cancel(id: str, patience: float) -> Steps[JobView]:
    response = yield from send(Request("DELETE", f"/v1/jobs/{id}"), patience)
    return cast(JobView, response.json())


def summarize_all(
    texts: Iterable[str],
    references: Iterable[str | None] | None,
    options: Options,
    wait: float,
    patience: float,
) -> Steps[list[BatchLine]]:
    deadline = time.monotonic() + wait
    rows: list[str] = []
    if references is None:
        rows.extend(json.dumps(text) for text in texts)
    else:
        pairs = zip(texts, references, strict=True)
        rows.extend(json.dumps(_without_none({"article": text, "summ": summ})) for text, summ in pairs)
    if not rows:
        return []
    params = _without_none(
        {
            "model": options.model,
            "priority": options.priority,
            "ttl_seconds": options.ttl_seconds and str(options.ttl_seconds),
            "params": options.params and json.dumps(options.params),
        }
    )
    headers = {"content-type": "application/x-ndjson", "idempotency-key": _key(options.idempotency_key)}
    content = "\n".join(rows).encode()
    response = yield from send(Request("POST", "/v1/batches", content, params, headers), patience)
    view = cast(BatchView, response.json())
    pause = 0.1
    while view["status"] in ("receiving", "running"):
        if time.monotonic() > deadline:
            raise NotFinished(view["id"], wait)
        yield Pause(pause)
        pause = min(2 * pause, 2.0)
        response = yield from send(Request("GET", f"/v1/batches/{view['id']}"), patience)
        view = cast(BatchView, response.json())
    path = f"/v1/batches/{view['id']}/results"
    response = yield from send(Request("GET", path, params={"format": "jsonl"}), patience)
    return [cast(BatchLine, json.loads(line)) for line in response.text.split("\n") if line]


def score(pairs: Iterable[ScorePair], stemmed: bool, options: Options, wait: float, patience: float) -> Steps[ScoreReport]:
    deadline = time.monotonic() + wait
    body = {"pairs": list(pairs), "stemmed": stemmed, "params": options.params, "model": options.model}
    headers = {
        "content-type": "application/json",
        "idempotency-key": _key(options.idempotency_key),
        "prefer": f"wait={int(min(wait, LONG_POLL))}",
    }
    response = yield from send(Request("POST", "/v1/scores", _body(body), {}, headers), patience)
    report = cast(ScoreReport, response.json())
    while not report["done"]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotFinished(report["id"], wait)
        params = {"wait": str(int(max(1.0, min(left, LONG_POLL))))}
        response = yield from send(Request("GET", f"/v1/scores/{report['id']}", params=params), patience)
        report = cast(ScoreReport, response.json())
    return report
