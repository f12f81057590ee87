"""A worker over HTTP: claims, handles, acks. Standard library only.

    OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders python3 worker.py
"""

import time

from over_http import call


def handle(delivery):
    print(delivery["id"], flush=True)


while True:
    try:
        deliveries = call("POST", "/claim", {"limit": 100, "wait": "20s"})["deliveries"]
    except OSError as cause:  # the server is away: it comes back
        print("waiting:", cause, flush=True)
        time.sleep(1)
        continue
    done, failed = [], []
    for delivery in deliveries:
        held = {"id": delivery["id"], "token": delivery["token"]}
        try:
            handle(delivery)
            done.append(held)
        except Exception as error:
            failed.append(held | {"error": str(error)})
    if done:
        call("POST", "/ack", {"deliveries": done})
    if failed:
        call("POST", "/retry", {"deliveries": failed})
