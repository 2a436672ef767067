"""Calls SageMaker endpoints of the gateway at URL and prints the responses as JSON.

Usage: boto3_client.py URL TIMEOUT_URL
TIMEOUT_URL is a gateway whose synchronous routes time out at once.
"""
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def client(url):
    return boto3.client(
        # Older code uses this name for `sagemaker-runtime`.
        "runtime.sagemaker",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIDDUMMY",
        aws_secret_access_key="dummy",
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}, proxies={}),
    )


def error(url, body, **options):
    try:
        client(url).invoke_endpoint(
            EndpointName="text-summarizer", ContentType="application/json", Body=body, **options
        )
    except ClientError as refused:
        response = dict(refused.response)
        meta = response.pop("ResponseMetadata")
        response["status"], response["retries"] = meta["HTTPStatusCode"], meta["RetryAttempts"]
        response["exception"] = type(refused).__name__
        return response
    return None


url, timeout_url = sys.argv[1:]
article = "Rain fell over the hills all night. The river rose by two metres before dawn, and two roads were closed."
body = json.dumps({"articles": [article, article]})
names = {"EndpointName": "text-summarizer", "ContentType": "application/json"}

plain = client(url).invoke_endpoint(Body=body, **names)
full = client(url).invoke_endpoint(
    Body=body,
    Accept="application/json",
    CustomAttributes="trace=abc",
    TargetVariant="v1",
    InferenceId="id-1",
    TargetModel="m.tar.gz",
    **names,
)
stream = client(url).invoke_endpoint_with_response_stream(Body=body, **names)
parts = [event["PayloadPart"]["Bytes"].decode() for event in stream["Body"]]
print(
    json.dumps(
        {
            "plain": {
                "body": json.loads(plain["Body"].read()),
                "content_type": plain["ContentType"],
                "variant": plain["InvokedProductionVariant"],
            },
            "full": {
                "body": json.loads(full["Body"].read()),
                "variant": full["InvokedProductionVariant"],
                "attributes": full["CustomAttributes"],
            },
            "stream": {"parts": parts, "content_type": stream["ContentType"]},
            "errors": {
                "blank": error(url, json.dumps({"articles": [" "]})),
                "not_json": error(url, "{"),
                "late": error(timeout_url, body),
            },
        }
    )
)
