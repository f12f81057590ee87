"""Registers a deadline by plain ZADD, with redis-py.

    REDIS_URL=redis://127.0.0.1:6379 QUEUE=orders python3 over_redis.py order-42
"""

import os
import sys
import time

import redis

queue = os.environ.get("QUEUE", "orders")
client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
due_ms = int(time.time() * 1000) + 30 * 60 * 1000
client.hset(f"overdue:{{{queue}}}:payload", sys.argv[1], '{"amount":"100.00"}')  # before the ZADD
client.zadd(f"overdue:{{{queue}}}:scheduled", {sys.argv[1]: due_ms})
print(due_ms)
