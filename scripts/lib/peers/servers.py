"""The servers that are measured on, on private ports of this machine: one redis-server for all that need Redis, and
beanstalkd, which is a server itself."""

import pathlib
import re
import shutil
import socket
import subprocess
import time

from .errors import Failed

START_LIMIT_S, STEP_S = 10, 0.05
REST_LIMIT_S = 10  # until memory does not change any more


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A process that listens. `aof` asks for a log of all writes, synced every second; without it nothing is persistent."""

    def __init__(self, place, aof):
        self.place, self.aof = pathlib.Path(place), aof
        self.port, self.process = free_port(), None

    def start(self):
        self.place.mkdir(parents=True)
        self.process = subprocess.Popen(self.words(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patient_until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < patient_until:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(STEP_S)
        self.stop()
        raise Failed(f"{self.words()[0]} does not listen")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def rest(self):
        """The memory in bytes once it does not change any more."""
        before, patient_until = self.memory_bytes(), time.monotonic() + REST_LIMIT_S
        while time.monotonic() < patient_until:
            time.sleep(10 * STEP_S)
            now = self.memory_bytes()
            if now == before:
                break
            before = now
        return before


class Redis(Server):
    """Settings are Redis' defaults, but for persistence."""

    def words(self):
        log = ["--appendonly", "yes", "--appendfsync", "everysec"] if self.aof else ["--appendonly", "no"]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.place)]
        return ["redis-server", *where, "--save", "", *log]

    def call(self, *words):
        command = ["redis-cli", "-p", str(self.port), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def info(self, field):
        return re.search(rf"^{field}:(.*)$", self.call("INFO"), re.MULTILINE)[1].strip()

    def clear(self):
        self.call("FLUSHALL")

    def memory_bytes(self):
        return int(self.info("used_memory"))

    def version(self):
        return self.info("redis_version")


class Beanstalkd(Server):
    """Has no command that empties it, so it is started anew; and tells no memory, so the resident memory is read."""

    def __init__(self, place, aof, binary):
        super().__init__(place, aof)
        self.binary = binary

    def words(self):
        log = ["-b", str(self.place), "-f", "1000"] if self.aof else []
        return [self.binary, "-l", "127.0.0.1", "-p", str(self.port), *log]

    def clear(self):
        self.stop()
        self.start()

    def memory_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stat(self, name):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"stats\r\n")
            with client.makefile("rb") as answer:
                _, length = answer.readline().split()
                text = answer.read(int(length)).decode()
        return int(re.search(rf"^{name}: (\d+)", text, re.MULTILINE)[1])
