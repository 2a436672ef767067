"""With a running product: its URL is in PRECIS_URL, and that of its NATS in NATS_URL."""

import asyncio
import os

import pytest

from precis_client import AsyncClient, Client, PrecisError, summarize_frame

pytestmark = pytest.mark.skipif("PRECIS_URL" not in os.environ, reason="PRECIS_URL is not set")

TEXT = "The harbour bridge will close for repairs on Monday, the city said. Ferries will run every ten minutes instead."


def client() -> Client:
    return Client(os.environ["PRECIS_URL"])


def test_a_text_is_summarized() -> None:
    with client() as precis:
        job = precis.summarize(TEXT, metadata={"source": "test"})
        assert job["status"] == "succeeded" and len(job["summary"] or "") > 10
        assert precis.job(job["id"])["metadata"] == {"source": "test"}
        key = "client-test-" + job["id"].split(".")[0]
        assert precis.submit(TEXT, idempotency_key=key)["id"] == precis.submit(TEXT, idempotency_key=key)["id"]
        with pytest.raises(PrecisError, match="empty_text"):
            precis.summarize(" ")
        with pytest.raises(PrecisError, match="num_beams"):
            precis.summarize(TEXT, params={"num_beams": 1000})


def test_a_batch_keeps_its_order() -> None:
    async def work() -> None:
        async with AsyncClient(os.environ["PRECIS_URL"]) as precis:
            lines = await precis.summarize_all([TEXT, "", "Snow fell over the town. Schools stay shut."])
            assert [line["status"] for line in lines] == ["succeeded", "failed", "succeeded"]
            assert await precis.summarize_all([]) == []
            report = await precis.score([{"summary": "Rain fell.", "reference": "Rain fell."}])
            assert report["done"] and report["aggregate"]["mean"]["rouge1"]["fmeasure"] == 1.0

    asyncio.run(work())


def test_a_frame_gets_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"body": [TEXT, None], "key": [7, 8]}, index=[3, 5])
    with client() as precis:
        done = summarize_frame(frame, precis, column="body")
    assert list(done["status"]) == ["succeeded", "failed"] and list(done.index) == [3, 5]
    assert "empty_text" in done["error"][5] and pandas.isna(done["error"][3])
    assert list(frame.columns) == ["body", "key"]


@pytest.mark.skipif("NATS_URL" not in os.environ, reason="NATS_URL is not set")
def test_a_job_is_published_to_nats() -> None:
    pytest.importorskip("nats")
    from precis_client.nats import Publisher

    async def work() -> None:
        async with Publisher() as publisher:
            assert len(await publisher.summarize(TEXT, metadata={"source": "test"})) > 10
            with pytest.raises(PrecisError, match="empty_text"):
                await publisher.summarize(" ")

    asyncio.run(work())
