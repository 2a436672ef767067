"""Client of Precis, a text summarization service."""

from .client import AsyncClient, Client
from .errors import JobFailed, NotFinished, PrecisError, Unreachable
from .frames import summarize_frame

__all__ = ["AsyncClient", "Client", "JobFailed", "NotFinished", "PrecisError", "Unreachable", "summarize_frame"]
