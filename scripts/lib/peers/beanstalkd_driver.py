"""The driver for beanstalkd: its protocol over raw sockets, pipelined. driver.py says what it is told and what it answers."""

import json
import re
import select
import socket
import sys
import time

READ_BYTES = 1 << 18
SAY_EVERY_S = 0.02
PRIORITY, TIME_TO_RUN_S = 0, 60
RESERVED = re.compile(rb"RESERVED (\d+) \d+\r\norder-\w{7}(?: (\d+))?\r\n")


def say(what):
    print(json.dumps(what), flush=True)


def connect(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def put_command(number, due_ms, calls):
    """Delays have whole seconds: rounded up, as an entry would be early otherwise."""
    body = f"order-{number:07x} {due_ms}" if calls else f"order-{number:07x}"
    delay_s = max(0, -int((time.time() * 1000 - due_ms) // 1000))
    return f"put {PRIORITY} {delay_s} {TIME_TO_RUN_S} {len(body)}\r\n{body}\r\n".encode()


def put(spec, go):
    with open(spec["deadlines"]) as file:
        entries = [(number, int(line)) for number, line in enumerate(file)]
    entries = entries[spec["share"]::spec["shares"]]
    portions = [entries[at:at + spec["pipelined"]] for at in range(0, len(entries), spec["pipelined"])]
    written = lambda some: b"".join(put_command(number, due, spec["calls"]) for number, due in some)
    # Where each second counts, delays are counted from the moment of the put; else all is written before the clock starts.
    commands = [written if spec["calls"] else written(some) for some in portions]
    client = connect(spec["port"])
    say({"ready": True})
    go()
    began, under_way = time.time(), 0
    for some, command in zip(portions, commands):
        client.sendall(command(some) if callable(command) else command)
        under_way += len(some)
        # The next portion is sent while beanstalkd is still at this one.
        under_way -= inserted(client, under_way - len(some))
    inserted(client, under_way)
    say({"began": began, "ended": time.time()})


def inserted(client, count):
    """Waits for at least so many answers, and answers how many came."""
    came = 0
    while came < count:
        answer = client.recv(READ_BYTES)
        if not answer or b"OUT_OF" in answer or b"DRAINING" in answer:
            sys.exit(f"put was answered {answer[:80]!r}")
        came += answer.count(b"\n")
    return came


class Worker:
    """One connection. Each round is one write: the deletes of the round before, then reserves that do not wait. Only
    when nothing was ready it waits, with one reserve: what is sent behind a reserve that waits is not looked at."""

    def __init__(self, spec):
        self.socket = connect(spec["port"])
        self.pipelined = spec["pipelined"]
        self.deletes, self.reserves, self.buffer = 0, 0, b""

    def send(self, jobs):
        self.deletes, self.reserves = len(jobs), self.pipelined if jobs else 1
        reserve = b"reserve-with-timeout 0\r\n" * self.reserves if jobs else b"reserve\r\n"
        self.socket.sendall(b"".join([b"delete %s\r\n" % job for job, _ in jobs]) + reserve)

    def turn(self, calls):
        """Takes what has come. At the end of a round it handles the jobs and begins the next; answers the acks of the
        round, which are known only now."""
        received = self.socket.recv(READ_BYTES)
        if not received:
            sys.exit("beanstalkd closed the connection")
        self.buffer += received
        reserved, none_ready = self.buffer.count(b"RESERVED "), self.buffer.count(b"TIMED_OUT")
        lines = self.deletes + 2 * reserved + none_ready
        if reserved + none_ready < self.reserves or self.buffer.count(b"\r\n") < lines:
            return 0
        called_ms = time.time() * 1000
        jobs, acked = RESERVED.findall(self.buffer), self.deletes
        if len(jobs) != reserved or self.buffer.count(b"DELETED") != acked:
            sys.exit(f"an answer is not understood: {self.buffer[:80]!r}")
        calls.extend((int(due), called_ms) for _, due in jobs if due)
        self.buffer = b""
        self.send(jobs)
        return acked


def work(spec, go):
    workers = [Worker(spec) for _ in range(spec["connections"])]
    by_socket = {worker.socket: worker for worker in workers}
    say({"ready": True})
    go()
    began = time.time()
    for worker in workers:
        worker.send([])
    done, last, said_at, calls = 0, began, began, []
    sockets = [*by_socket, sys.stdin]
    while True:
        readable, _, _ = select.select(sockets, [], [], SAY_EVERY_S)
        if sys.stdin in readable:
            break
        acked = sum(by_socket[one].turn(calls) for one in readable)
        now = time.time()
        if acked:
            done, last = done + acked, now
        if now - said_at > SAY_EVERY_S:
            said_at = now
            say({"done": done})
    say({"began": began, "last": last, "calls": calls})


def main():
    role, spec = sys.argv[1], json.loads(sys.argv[2])
    go = lambda: sys.stdin.readline()
    {"put": put, "work": work}[role](spec, go)


if __name__ == "__main__":
    main()
