"""All jobs of a peer: first each of its settings once, then the best of them in several runs."""

import statistics
import sys

from .errors import Failed
from .jobs import Jobs

# Settings are tried on a part of the work, and for fewer seconds.
TRIED_PART, TRIED_SPAN_S = 4, 5
# What is better, of the settings of a job: more entries in a second, or a lower p50.
BEST = {"register": lambda run: -run["per_s"], "drain": lambda run: -run["per_s"], "lateness": lambda run: run["p50"]}


def log(text):
    print(text, file=sys.stderr, flush=True)


def figures(settings, runs):
    """Medians of what the runs gave, with the least and the greatest."""
    row = {"settings": settings, "values": runs}
    for name in runs[0]:
        values = [run[name] for run in runs]
        row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return row


def best(job, tries):
    """The best of several settings, and what each of them gave. One that fails is out, unless all do."""
    tried, failures = [], []
    for settings, run in tries:
        try:
            tried.append((settings, run()))
        except Failed as failure:
            failures.append({"settings": settings, "failed": str(failure)})
    if not tried:
        raise Failed(failures[0]["failed"])
    settings, _ = min(tried, key=lambda one: BEST[job](one[1]))
    return settings, [{"settings": settings, **run} for settings, run in tried] + failures


def measured(peer, job, candidates, trial, call, runs):
    """One job of a peer: `trial` of each of the settings, `call` of the best. A failure is a result, too."""
    log(f"{peer.name}: {job}")
    try:
        settings, tried = candidates[0], []
        if len(candidates) > 1:
            settings, tried = best(job, [(one, lambda one=one: trial(one)) for one in candidates])
        return figures(settings, [call(settings) for _ in range(runs)]) | {"tried": tried}
    except Failed as failure:
        log(f"{peer.name}: {job} failed: {failure}")
        return {"failed": str(failure)}


def measure(peer, server, place, args):
    """The three jobs. Registering comes first: the others register with its best settings."""
    jobs = Jobs(peer, server, place, args.seed)
    register = lambda settings: jobs.register(args.ids, settings)
    done = {"register": measured(peer, "register", peer.put_settings, register, register, args.runs)}
    put = done["register"].get("settings", peer.put_settings[0])

    def drain(count):
        trial = lambda settings: jobs.drain(count // TRIED_PART, settings, put)
        call = lambda settings: jobs.drain(count, settings, put)
        return measured(peer, "drain", peer.drain_settings, trial, call, args.runs) | {"entries": count}

    done["drain"] = drain(args.ids)
    fewer = getattr(peer, "fewer_due", args.ids)
    if "failed" in done["drain"] and fewer < args.ids:
        done["drain"] = drain(fewer) | {"of_all": done["drain"]["failed"]}
    done["lateness"] = measured(
        peer, "lateness", peer.late_settings,
        lambda settings: jobs.lateness(args.rate, min(args.span, TRIED_SPAN_S), settings, put),
        lambda settings: jobs.lateness(args.rate, args.span, settings, put), args.runs)
    return done
