"""Compares `POST /invocations` with MLflow's scoring server on the bodies of `tests/contracts/mlflow/`, and calls it with
MLflow's own client."""

import json
import logging
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from product import REPOSITORY

FOLDER = REPOSITORY / "tests/contracts/mlflow"
sys.path.insert(0, str(FOLDER))
import capture  # noqa: E402


def post(product, content_type, body):
    url = product.api + "/invocations"
    request = urllib.request.Request(url, body, {"content-type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}


def check(product):
    warnings.filterwarnings("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    recorded = json.loads((FOLDER / "bodies.json").read_text())
    different = json.loads((FOLDER / "different.json").read_text())
    different = {name for names in different.values() for name in names}
    mlflow = capture.server()
    for entry, body in zip(recorded, capture.BODIES, strict=True):
        assert capture.record(mlflow, *body) == entry, f"MLflow answers {entry['name']} differently now"
        name, content_type, content = body
        if name in different:
            continue
        status, answer = post(product, content_type, content)
        expected = entry["status"], len(entry.get("texts", []))
        assert (status, len(answer.get("predictions", []))) == expected, f"{name}: {status} {answer}"
    address = urllib.parse.urlsplit(product.api)
    client = ScoringServerClient(address.hostname, address.port)
    frame = pd.DataFrame({"article": ["Rain fell all night.", "Snow fell."], "x": [1.5, np.nan]})
    assert len(client.invoke(frame).get_predictions()) == 2
    print(f"tables: {len(recorded) - len(different)} bodies equal, {len(different)} different on purpose")
