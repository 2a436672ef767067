"""What can go wrong."""

import httpx

from .models import JobView


class PrecisError(Exception):
    """The gateway refused a request."""

    def __init__(self, code: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        """Stable error code, such as `text_too_long`."""
        self.detail = detail
        self.status = status
        """Status of the response."""

    @classmethod
    def of(cls, response: httpx.Response) -> "PrecisError":
        """Reads a problem (RFC 9457)."""
        try:
            problem = response.json()
            return cls(problem["code"], problem["detail"], response.status_code)
        except (ValueError, KeyError, TypeError):
            detail = f"{response.url} does not answer like the gateway of Precis (status {response.status_code})"
            return cls("not_precis", detail, response.status_code)


class Unreachable(PrecisError):
    """The gateway did not answer, although the request was repeated."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__("unreachable", f"{url}: {cause or type(cause).__name__}")


class JobFailed(PrecisError):
    """A job ended without a summary."""

    def __init__(self, job: JobView) -> None:
        error = job.get("error") or {"code": job["status"], "message": "the job has no summary"}
        super().__init__(str(error["code"]), str(error["message"]))
        self.job = job


class NotFinished(PrecisError):
    """A job or batch has not ended in time. It stays in the queue."""

    def __init__(self, id: str, seconds: float) -> None:
        super().__init__("not_finished", f"{id} has not ended after {seconds:g} seconds; ask for it again by its id")
        self.id = id
