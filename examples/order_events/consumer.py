"""Follows what happens to orders, as one of a group: pip install redis && python consumer.py [redis://…]

Each event goes to one consumer of the group, and stays with it until it is acknowledged. What a consumer that died had
taken goes to another after a minute. So an event can come twice: whatever is done with it must be safe to repeat.
"""

import os
import socket
import sys

import redis

STREAM, GROUP = "overdue:{orders}:events", "billing"
CONSUMER = f"{socket.gethostname()}-{os.getpid()}"


def handle(event):
    print(event["type"], event["id"], event["at"], flush=True)


def main(url):
    client = redis.Redis.from_url(url, decode_responses=True)
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):  # the group is there already
            raise
    while True:
        left_behind = client.xautoclaim(STREAM, GROUP, CONSUMER, min_idle_time=60_000, count=100)[1]
        fresh = client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=100, block=1000)
        for entry, event in left_behind + (fresh[0][1] if fresh else []):
            if event is not None:  # Redis 6.2 tells of entries that were trimmed meanwhile
                handle(event)
                client.xack(STREAM, GROUP, entry)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1:6379")
