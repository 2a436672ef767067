"""Data frames of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import Client

if TYPE_CHECKING:
    import pandas as pd


def summarize_frame(
    frame: pd.DataFrame,
    client: Client,
    *,
    column: str = "article",
    reference: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Summarizes a column. Returns a copy with the columns `summary`, `status` and `error`.

    `options` are those of `Client.summarize_all`. A missing text is an error of its row.
    """
    missing = frame[column].isna()
    texts = frame[column].astype(object).where(~missing, "").map(str)
    references = None
    if reference is not None:
        given = frame[reference]
        references = [None if absent else str(text) for text, absent in zip(given, given.isna(), strict=True)]
    lines = client.summarize_all(texts, references, **options)
    errors = (line.get("error") for line in lines)
    return frame.assign(
        summary=[line.get("summary") for line in lines],
        status=[line["status"] for line in lines],
        error=[f"{error['code']}: {error['message']}" if error else None for error in errors],
    )
