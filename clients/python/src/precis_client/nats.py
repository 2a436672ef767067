"""Publishing to NATS without the gateway. Needs `nats-py`."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from types import TracebackType
from typing import Any, cast

import nats
import nats.errors
import nats.js.errors

from .errors import NotFinished, PrecisError
from .models import Job, JobResult, Lane


class Publisher:
    """Publishes jobs and reads their results.

    The URL, with user and password, is `url`, or `NATS_URL` in the environment.
    """

    def __init__(self, url: str | None = None, *, tenant: str = "public") -> None:
        self._url = url or os.environ.get("NATS_URL") or "nats://127.0.0.1:4222"
        self._tenant = tenant
        self._client: Any = None

    async def __aenter__(self) -> Publisher:
        self._client = await nats.connect(self._url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def publish(self, job: Job, *, model: str = "default", lane: Lane = "normal") -> int:
        """Publishes a job and returns its sequence in the queue. Publishing the same id again is safe."""
        subject = f"jobs.v1.{model}.{lane}.summarize.{self._tenant}"
        try:
            acknowledged = await self._client.jetstream().publish(
                subject, json.dumps(job).encode(), headers={"Nats-Msg-Id": job["id"]}
            )
        except nats.js.errors.APIError as error:
            code = "queue_full" if error.err_code == 10077 else "queue_unavailable"
            raise PrecisError(code, str(error.description)) from error
        return int(acknowledged.seq)

    async def result(self, id: str, *, wait: float = 60.0) -> JobResult:
        """Waits for the result of a job. Raises `NotFinished` after `wait` seconds."""
        done = await self._client.subscribe(f"done.v1.{id}", max_msgs=1)
        try:
            # It may have ended before the subscription began.
            message = await self._client.jetstream().get_last_msg("RESULTS", f"results.v1.{id}", direct=True)
        except nats.js.errors.NotFoundError:
            try:
                message = await done.next_msg(timeout=wait)
            except (nats.errors.TimeoutError, asyncio.TimeoutError) as error:
                raise NotFinished(id, wait) from error
        return cast(JobResult, json.loads(message.data))

    async def summarize(self, text: str, *, wait: float = 60.0, **job: Any) -> str:
        """Publishes a text and returns its summary. `job` are more fields of the job, such as `params`."""
        id = uuid.uuid4().hex
        await self.publish(cast(Job, {"id": id, "text": text, **job}))
        result = await self.result(id, wait=wait)
        if result["outcome"] != "succeeded":
            error = result.get("error") or {"code": result["outcome"], "message": "the job has no summary"}
            raise PrecisError(str(error["code"]), str(error["message"]))
        return str(result.get("summary"))
