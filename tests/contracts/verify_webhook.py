"""Verifies a webhook with the Standard Webhooks library. Reads {"secret", "headers", "body"} from standard input."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

call = json.load(sys.stdin)
try:
    Webhook(call["secret"]).verify(call["body"], call["headers"])
except WebhookVerificationError as error:
    sys.exit(f"not verified: {error}")
