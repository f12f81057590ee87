"""A worker over HTTP: claims, handles, acks. Standard library only.

    OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders python3 worker.py

Handling all that one claim takes must take less time than the lease: claim fewer, or extend it, where it does not.
"""

import time
import urllib.error

from over_http import call


def handle(delivery):
    print(delivery["id"], flush=True)


def until_it_works(path, body):
    while True:
        try:
            return call("POST", path, body)
        except OSError as cause:  # the server is away: it comes back
            if isinstance(cause, urllib.error.HTTPError) and cause.code < 500:
                raise
            print("waiting:", cause, flush=True)
            time.sleep(1)


while True:
    done, failed = [], []
    for delivery in until_it_works("/claim", {"limit": 100, "wait": "20s"})["deliveries"]:
        held = {"id": delivery["id"], "token": delivery["token"]}
        try:
            handle(delivery)
            done.append(held)
        except Exception as error:
            failed.append(held | {"error": str(error)})
    if done:
        until_it_works("/ack", {"deliveries": done})
    if failed:
        until_it_works("/retry", {"deliveries": failed})
