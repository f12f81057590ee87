"""Registers a deadline over HTTP. Standard library only.

    OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders python3 over_http.py order-42
"""

import json
import os
import sys
import urllib.parse
import urllib.request

URL = os.environ.get("OVERDUE_URL", "http://127.0.0.1:7700")
QUEUE = os.environ.get("QUEUE", "orders")


def call(method, path, body=None):
    headers = {"content-type": "application/json"}
    if token := os.environ.get("OVERDUE_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{URL}/v1/queues/{QUEUE}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=40) as answer:
        return json.load(answer)


if __name__ == "__main__":
    path = "/deadlines/" + urllib.parse.quote(sys.argv[1], safe="")
    print(call("PUT", path, {"delay": "30m", "payload": {"amount": "100.00"}})["due_at"])
