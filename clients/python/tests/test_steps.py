"""What the clients do about errors, without a network."""

import asyncio
import json

import httpx
import pytest

from precis_client import AsyncClient, Client, JobFailed, NotFinished, PrecisError, Unreachable

TEXT = "Rain fell. It was wet."


def view(status: str, **fields: object) -> dict[str, object]:
    return {"id": "a.1", "status": status, "links": {"self": "/v1/jobs/a.1", "events": "…"}, **fields}


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "why"}, headers=headers)


class Server:
    """Gives these answers in turn."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, patience: float = 60.0) -> Client:
        return Client(transport=httpx.MockTransport(self), patience=patience, api_key="k")


def test_a_repeated_submission_has_the_same_key() -> None:
    server = Server(
        httpx.ConnectError("refused"),
        problem(503, "queue_unavailable", **{"retry-after": "0"}),
        httpx.Response(202, json=view("queued")),
        httpx.Response(200, json=view("succeeded", summary="Rain fell.")),
    )
    job = server.client().summarize(TEXT, params={"num_beams": 4}, reference=None)
    assert job.get("summary") == "Rain fell."
    keys = [request.headers["idempotency-key"] for request in server.requests[:3]]
    assert len(set(keys)) == 1 and server.requests[0].headers["x-api-key"] == "k"
    assert json.loads(server.requests[2].content) == {"text": TEXT, "params": {"num_beams": 4}}
    assert server.requests[3].url.path == "/v1/jobs/a.1"


def test_a_refusal_is_not_repeated() -> None:
    server = Server(problem(422, "text_too_long"))
    with pytest.raises(PrecisError, match="text_too_long: why") as caught:
        server.client().submit(TEXT)
    assert (caught.value.code, caught.value.status) == ("text_too_long", 422)
    with pytest.raises(PrecisError, match="does not answer like the gateway"):
        Server(httpx.Response(404, text="nginx")).client().job("a.1")


def test_patience_ends() -> None:
    with pytest.raises(Unreachable, match="refused"):
        Server(httpx.ConnectError("refused")).client(patience=0.0).job("a.1")
    with pytest.raises(PrecisError, match="rate_limited"):
        Server(problem(429, "rate_limited", **{"retry-after": "60"})).client(patience=5.0).job("a.1")


def test_a_job_without_a_summary_is_an_error() -> None:
    error = {"code": "inference_failed", "message": "boom", "doc": "…"}
    server = Server(httpx.Response(200, json=view("failed", error=error)))
    with pytest.raises(JobFailed, match="inference_failed: boom") as caught:
        server.client().summarize(TEXT)
    assert caught.value.job["id"] == "a.1"
    with pytest.raises(NotFinished) as late:
        Server(httpx.Response(202, json=view("queued"))).client().summarize(TEXT, wait=0.0)
    assert late.value.id == "a.1"


def test_the_coroutines_do_the_same() -> None:
    server = Server(
        problem(502, "bad_gateway"),
        httpx.Response(202, json=view("queued")),
        httpx.Response(200, json=view("succeeded", summary="Rain fell.")),
    )

    async def work() -> str | None:
        async with AsyncClient(transport=httpx.MockTransport(server)) as client:
            return (await client.summarize(TEXT)).get("summary")

    assert asyncio.run(work()) == "Rain fell."
