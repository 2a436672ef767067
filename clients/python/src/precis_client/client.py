"""The clients: `Client` blocks, `AsyncClient` has the same methods as coroutines."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from . import steps
from .models import BatchLine, GenerationParams, JobView, Lane, ScorePair, ScoreReport

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"


def _settings(url: str, api_key: str | None) -> dict[str, Any]:
    key = api_key or os.environ.get("PRECIS_API_KEY")
    timeout = httpx.Timeout(steps.LONG_POLL + 30.0, connect=5.0)
    return {"base_url": url, "headers": {"x-api-key": key} if key else {}, "timeout": timeout}


class Client:
    """A client that blocks.

    `patience` is how many seconds to repeat a request while the gateway is away or busy. `transport` replaces the
    network, for tests.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        patience: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(transport=transport, **_settings(url, api_key))
        self._patience = patience

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _run(self, conversation: "steps.Steps[T]") -> T:
        answer: steps.Answer = None
        while True:
            try:
                action = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(action, steps.Pause):
                time.sleep(action.seconds)
                answer = None
                continue
            try:
                answer = self._http.request(
                    action.method, action.path, content=action.content, params=action.params, headers=action.headers
                )
            except httpx.TransportError as error:
                answer = error

    def summarize(
        self,
        text: str,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
        wait: float = 60.0,
    ) -> JobView:
        """Summarizes a text and returns its job, with the `summary`.

        Raises `JobFailed`, or `NotFinished` after `wait` seconds.
        """
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return self._run(steps.summarize(text, options, reference, metadata, wait, self._patience))

    def submit(
        self,
        text: str,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """Submits a text and returns its job, which is in the queue."""
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return self._run(steps.submit(text, options, reference, metadata, 0.0, self._patience))

    def job(self, id: str, *, wait: float = 0.0) -> JobView:
        """Returns a job. Waits up to `wait` seconds, at most 30, for its end."""
        return self._run(steps.job(id, wait, self._patience))

    def cancel(self, id: str) -> JobView:
        """Cancels a job."""
        return self._run(steps.cancel(id, self._patience))

    def summarize_all(
        self,
        texts: Iterable[str],
        references: Iterable[str | None] | None = None,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
        wait: float = 3600.0,
    ) -> list[BatchLine]:
        """Summarizes many texts as a batch. Returns a line per text, in their order; a failed one has an `error`."""
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return self._run(steps.summarize_all(texts, references, options, wait, self._patience))

    def score(
        self,
        pairs: Iterable[ScorePair],
        *,
        stemmed: bool = False,
        params: GenerationParams | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 60.0,
    ) -> ScoreReport:
        """Scores summaries against references."""
        options = steps.Options(params, model, idempotency_key=idempotency_key)
        return self._run(steps.score(pairs, stemmed, options, wait, self._patience))


class AsyncClient:
    """A client with coroutines. See `Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        patience: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(transport=transport, **_settings(url, api_key))
        self._patience = patience

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _run(self, conversation: "steps.Steps[T]") -> T:
        answer: steps.Answer = None
        while True:
            try:
                action = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(action, steps.Pause):
                await asyncio.sleep(action.seconds)
                answer = None
                continue
            try:
                answer = await self._http.request(
                    action.method, action.path, content=action.content, params=action.params, headers=action.headers
                )
            except httpx.TransportError as error:
                answer = error

    async def summarize(
        self,
        text: str,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
        wait: float = 60.0,
    ) -> JobView:
        """See `Client.summarize`."""
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return await self._run(steps.summarize(text, options, reference, metadata, wait, self._patience))

    async def submit(
        self,
        text: str,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """See `Client.submit`."""
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return await self._run(steps.submit(text, options, reference, metadata, 0.0, self._patience))

    async def job(self, id: str, *, wait: float = 0.0) -> JobView:
        """See `Client.job`."""
        return await self._run(steps.job(id, wait, self._patience))

    async def cancel(self, id: str) -> JobView:
        """See `Client.cancel`."""
        return await self._run(steps.cancel(id, self._patience))

    async def summarize_all(
        self,
        texts: Iterable[str],
        references: Iterable[str | None] | None = None,
        *,
        params: GenerationParams | None = None,
        model: str | None = None,
        priority: Lane | None = None,
        ttl_seconds: int | None = None,
        idempotency_key: str | None = None,
        wait: float = 3600.0,
    ) -> list[BatchLine]:
        """See `Client.summarize_all`."""
        options = steps.Options(params, model, priority, ttl_seconds, idempotency_key)
        return await self._run(steps.summarize_all(texts, references, options, wait, self._patience))

    async def score(
        self,
        pairs: Iterable[ScorePair],
        *,
        stemmed: bool = False,
        params: GenerationParams | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 60.0,
    ) -> ScoreReport:
        """See `Client.score`."""
        options = steps.Options(params, model, idempotency_key=idempotency_key)
        return await self._run(steps.score(pairs, stemmed, options, wait, self._patience))
