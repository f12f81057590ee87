"""Runs the programs that talk to a peer in its own language, and says what they are told.

A driver is called with a role, `put` or `work`, and one JSON object: the port, the file with a deadline in ms since the
epoch on each line, which share of them is its own (line n belongs to share n % shares), and the settings. It

1. connects, loads and warms up, then prints `{"ready": true}`;
2. begins when a line comes on stdin;
3. `put` registers its share, prints `{"began": …, "ended": …}` in seconds since the epoch, and exits; `work` handles what
   is due, prints `{"done": N}` now and then, and when stdin closes `{"began": …, "last": …, "calls": [[due, called], …]}`,
   where `last` is when the last one was handled and acked, and `calls` is in ms and only asked for by `lateness`.
"""

import json
import os
import subprocess
import tempfile
import threading
import time

from .errors import Failed

READY_LIMIT_S = 120  # loading, connecting and warming up
PUT_LIMIT_S = 600
IDLE_LIMIT_S = 30  # nothing is done any more
STOP_LIMIT_S = 60
STEP_S = 0.02


class Driver:
    def __init__(self, words, environment, role, spec):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*words, role, json.dumps(spec)], env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.ready, self.done, self.result = False, 0, None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            self.ready = self.ready or "ready" in said
            self.done = said.get("done", self.done)
            if "began" in said:
                self.result = said

    def check(self):
        """An end without a result is a failure, whatever the exit code."""
        if self.process.poll() is not None:
            self.reader.join()
            if self.result is None:
                raise Failed(self.last_words())

    def last_words(self):
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"the driver ended with exit code {self.process.returncode}"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


class Crew:
    """Drivers of one role that share the work. Leaving the context ends them all."""

    def __init__(self, peer, role, port, deadlines, settings):
        count = settings.get("processes", 1)
        spec = {"port": port, "deadlines": str(deadlines), "shares": count, "calls": False} | settings
        words, environment = peer.driver(settings)
        self.drivers = []
        try:
            for share in range(count):
                self.drivers.append(Driver(words, environment, role, spec | {"share": share}))
        except OSError as error:
            self.__exit__()
            raise Failed(str(error)) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for driver in self.drivers:
            driver.kill()

    def wait(self, true_of_all, limit_s, what):
        patient_until = time.monotonic() + limit_s
        while not all(map(true_of_all, self.drivers)):
            for driver in self.drivers:
                driver.check()
            if time.monotonic() > patient_until:
                raise Failed(f"{what} within {limit_s} s")
            time.sleep(STEP_S)

    def go(self):
        """All begin at once, when all are ready."""
        self.wait(lambda driver: driver.ready, READY_LIMIT_S, "not ready")
        for driver in self.drivers:
            driver.go()

    def results(self, limit_s):
        self.wait(lambda driver: driver.result, limit_s, "no result")
        return [driver.result for driver in self.drivers]

    def put(self):
        """Registers all; answers the seconds from the first call to the last answer."""
        self.go()
        results = self.results(PUT_LIMIT_S)
        return max(one["ended"] for one in results) - min(one["began"] for one in results)

    def work_off(self, count):
        """Waits until `count` are done, and answers what the drivers say of it."""
        before, patient_until = -1, 0
        while (done := sum(driver.done for driver in self.drivers)) < count:
            for driver in self.drivers:
                driver.check()
            if done > before:
                before, patient_until = done, time.monotonic() + IDLE_LIMIT_S
            elif time.monotonic() > patient_until:
                raise Failed(f"stops after {done:,} of {count:,}")
            time.sleep(STEP_S)
        for driver in self.drivers:
            driver.end()
        return self.results(STOP_LIMIT_S)
