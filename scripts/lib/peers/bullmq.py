"""BullMQ, on Node.js, with ioredis."""

import pathlib
import re

from . import install

HERE = pathlib.Path(__file__).resolve().parent
BULLMQ = "6.7.0"
IOREDIS, IOREDIS_BEFORE_NODE_20 = "6.0.0", "5.11.1"


class BullMQ:
    name = "BullMQ"
    server = "redis"
    entry = "job with an id of 13 bytes and no data"
    # addBulk, which its documentation names for adding many: one transaction a call. Several calls under way keep Redis
    # busy while Node prepares the next.
    put_settings = [
        {"batch": 1000, "calls_at_once": 1},
        {"batch": 100, "calls_at_once": 8},
        {"batch": 500, "calls_at_once": 2, "processes": 2},
    ]
    # Its documentation names two ways to do more at once: handlers at once in a worker (50 in its example), and workers in
    # several processes, which it recommends. Finished jobs are removed, as it advises for production. ioredis' automatic
    # pipelining was tried, too, and drained 40 % fewer.
    drain_settings = [{"concurrency": 50}, {"concurrency": 100}, {"concurrency": 300}, {"concurrency": 50, "processes": 2}]
    late_settings = [{"concurrency": 1}, {"concurrency": 50}, {"concurrency": 50, "processes": 2}]

    def install(self, args):
        install.debian(["node", "npm"], ["nodejs", "npm"])
        node = install.run(["node", "--version"], "node").strip()
        ioredis = IOREDIS if int(re.match(r"v(\d+)", node)[1]) >= 20 else IOREDIS_BEFORE_NODE_20
        self.place = args.cache / "bullmq"
        self.place.mkdir(parents=True, exist_ok=True)
        packages = [f"bullmq@{BULLMQ}", f"ioredis@{ioredis}"]
        flags = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(self.place)]
        install.run(["npm", "install", *flags, *packages], "npm install bullmq")
        return f"{BULLMQ}, ioredis {ioredis}, node {node}"

    def driver(self, settings):
        return ["node", str(HERE / "bullmq.cjs")], {"NODE_PATH": str(self.place / "node_modules")}

    def pending(self, server):
        return int(server.call("ZCARD", "bull:bench:delayed"))
