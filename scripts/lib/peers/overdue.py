"""overdue itself, by its own benchmark, on the same redis-server."""

import json
import os
import subprocess

from .errors import Failed, Unavailable
from .measure import figures, log

MEASURES = ["register", "fire", "lateness", "memory"]
BATCH_SIZES = "500,1000"
ID_BYTES = 13


class Overdue:
    name = "overdue"
    server = "redis"
    entry = "id of 13 bytes"

    def install(self, args):
        self.binary = str(args.overdue)
        if not os.access(self.binary, os.X_OK):
            raise Unavailable(f"there is no {self.binary}: `cargo build --release`, or --overdue PATH")
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def measure(self, server, args):
        server.clear()
        log("overdue: bench " + " ".join(MEASURES))
        sizes = {"ids": args.ids, "backlog": args.ids, "rates": args.rate, "span": f"{args.span}s",
                 "batch-sizes": BATCH_SIZES, "runs": args.runs, "seed": args.seed}
        flags = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        url = f"redis://127.0.0.1:{server.port}"
        done = subprocess.run([self.binary, "bench", *MEASURES, *flags, "--redis-url", url, "-o", "json"],
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])
        return rows(json.loads(done.stdout), args)


def rows(report, args):
    """The figures of the report that are about the three jobs."""
    found = {}
    for figure in report["figures"]:
        found.setdefault((figure["measure"], figure["case"]), []).append(figure)

    def one(measure, case, **settings):
        return next(figure for figure in found[measure, case] if settings.items() <= figure["settings"].items())

    put = max(found["register", "rust_bulk"] + found["register", "rust_pipelined"], key=lambda one: one["median"])
    fire = max(found["fire", "in_process"], key=lambda one: one["median"])
    late = {case: one("lateness", case, pending=0)["values"] for case in ("p50", "p99", "max")}
    memory = one("memory", "id", id_bytes=ID_BYTES, pending=args.ids)["median"]
    concurrency = {"concurrency": report["concurrency"]}
    register = figures({"way": put["case"]}, [{"per_s": value, "bytes": memory} for value in put["values"]])
    drain = figures({"batch_size": fire["settings"]["batch_size"]} | concurrency,
                    [{"per_s": value} for value in fire["values"]])
    # Its benchmark counts nothing as early: an id that is called ahead of its deadline counts as in time. That there is
    # none is a promise with tests of its own.
    lateness = figures(concurrency, [dict(zip(late, values)) for values in zip(*late.values())])
    return {"register": register, "drain": drain | {"entries": args.ids}, "lateness": lateness}
