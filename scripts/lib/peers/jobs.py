"""The three jobs, the same for every peer."""

import math
import random
import time

from .driver import Crew
from .errors import Failed

SOON_S, DAY_S = 3600, 24 * 3600  # deadlines of `register`: within a day that begins in an hour
DUE_SPREAD_S = 1  # deadlines of `drain`: within the second before the first that is handled
ROUNDING_S = 1.2  # peers with whole seconds are due up to a second later
LEAD_S, LEAD_FACTOR = 2, 1.5  # between registering, as long as it is thought to take, and the first deadline
TRIES = 4
WARM_UP_S = 3  # of `lateness`: deadlines before the ones that count


class Jobs:
    """The jobs on one peer. `place` is a directory for the files with deadlines, `seed` makes the same again."""

    def __init__(self, peer, server, place, seed):
        self.peer, self.server, self.place = peer, server, place
        self.random = random.Random(seed)
        self.puts_a_second = 20_000  # until `register` knows better

    def write(self, deadlines_ms):
        file = self.place / "deadlines"
        file.write_text("".join(f"{due}\n" for due in deadlines_ms))
        return file

    def spread(self, count, first_s, span_s):
        """Deadlines at random, in no order, in whole ms."""
        return [round((first_s + self.random.random() * span_s) * 1000) for _ in range(count)]

    def crew(self, role, deadlines_ms, settings):
        return Crew(self.peer, role, self.server.port, self.write(deadlines_ms), settings)

    def put(self, deadlines_ms, settings):
        """Registers all, and makes sure of it."""
        with self.crew("put", deadlines_ms, settings) as crew:
            took_s = crew.put()
        return took_s

    def register(self, count, settings):
        """Entries in a second, and bytes for each."""
        self.server.clear()
        before = self.server.rest()
        took_s = self.put(self.spread(count, time.time() + SOON_S, DAY_S), settings)
        pending = self.peer.pending(self.server)
        if pending != count:
            raise Failed(f"{pending:,} of {count:,} are pending")
        self.puts_a_second = count / took_s
        return {"per_s": count / took_s, "bytes": (self.server.rest() - before) / count}

    def in_time(self, count, attempt):
        """Calls `attempt` with the time before the first deadline, more of it until registering takes less."""
        lead_s = LEAD_S + LEAD_FACTOR * count / self.puts_a_second
        for _ in range(TRIES):
            self.server.clear()
            if (result := attempt(lead_s)) is not None:
                return result
            lead_s *= 2
        raise Failed(f"takes more than {lead_s / 2:.0f} s to register {count:,} ahead of time")

    def drain(self, count, settings, put_settings):
        """Entries in a second, from the first poll to the last ack. All are registered ahead, so none is handed over
        but by whatever the peer looks for due entries with."""
        def fill(lead_s):
            first_s = time.time() + lead_s
            self.put(self.spread(count, first_s, DUE_SPREAD_S), put_settings)
            return first_s if time.time() < first_s else None

        first_s = self.in_time(count, fill)
        time.sleep(max(0, first_s + DUE_SPREAD_S + ROUNDING_S - time.time()))
        with self.crew("work", [], settings) as crew:
            crew.go()
            results = crew.work_off(count)
        return {"per_s": count / (max(one["last"] for one in results) - min(one["began"] for one in results))}

    def lateness(self, rate, span_s, settings, put_settings):
        """From the deadline to the call of the handler, in ms, each from its own instant (an open loop)."""
        count = round(rate * (WARM_UP_S + span_s))

        def attempt(lead_s):
            with self.crew("work", [], settings | {"calls": True}) as crew:
                crew.go()
                first_s = time.time() + lead_s
                self.put(self.spread(count, first_s, WARM_UP_S + span_s), put_settings | {"calls": True})
                if time.time() > first_s:
                    return None
                time.sleep(max(0, first_s - time.time()))
                return first_s, crew.work_off(count)

        first_s, results = self.in_time(count, attempt)
        from_ms = (first_s + WARM_UP_S) * 1000
        return summary([called - due for one in results for due, called in one["calls"] if due >= from_ms])


def summary(late_ms):
    late_ms.sort()
    rank = lambda share: late_ms[math.ceil(share * len(late_ms)) - 1]
    return {"p50": rank(0.5), "p99": rank(0.99), "max": rank(1), "early": sum(1 for ms in late_ms if ms < 0)}
