"""Sums up the reports of scripts/prove: prints two tables, and writes them into a document between its markers."""

import argparse
import collections
import datetime
import json
import platform
import re
import statistics
import subprocess

BEGIN, END = "<!-- scripts/prove begins -->", "<!-- scripts/prove ends -->"
BROKEN = ["lost", "early", "after_cancel", "stale_accepted", "two_leases"]


def zero(count, of):
    """A count; beside a zero, how often it may happen all the same, with 95 % confidence: the rule of three."""
    return f"{count:,}" if count or not of else f"0 (< {3 / of:.0e})"


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def scenarios(runs):
    by_name = collections.defaultdict(list)
    for run in runs:
        by_name[run["scenario"]].append(run)
    yield row(["scenario", "runs", "faults that struck", "registered", "cancelled", "broken promises",
               "handled again, of those allowed", "late: p50 / p99 / max ms"])
    yield "|---|--:|---|--:|--:|--:|--:|--:|"
    for name, group in by_name.items():
        total = lambda key: sum(run[key] for run in group)
        struck = collections.Counter()
        for run in group:
            struck.update(run["strikes"])
        # Which of twenty-odd steps it was is in the test.
        kinds = collections.Counter()
        for fault, count in struck.items():
            kinds["kill -9 at a named step" if re.match(r"kill -9 (before|after):", fault) else fault] += count
        allowed = [run["allowed_duplicates"] for run in group]
        late = "/".join(
            f" {statistics.median(run['lateness_ms'][at] for run in group):,.0f} "
            if all(run["lateness_ms"][at] is not None for run in group) else " - "
            for at in ("p50", "p99", "max"))
        yield row([
            name, len(group), ", ".join(f"{count:,} {fault}" for fault, count in sorted(kinds.items())) or "none",
            f"{total('registered'):,}", f"{total('cancelled'):,}",
            zero(sum(total(key) for key in BROKEN), total("registered")),
            f"{total('duplicates'):,} of " + ("any" if None in allowed else f"{sum(allowed):,}"), late.strip(),
        ])


def measured(runs):
    by_name = collections.defaultdict(list)
    for run in runs:
        for name, value in run["measured"].items():
            if isinstance(value, (int, float)):
                by_name[run["scenario"], name].append(value)
    yield row(["scenario", "measured", "median", "most"])
    yield "|---|---|--:|--:|"
    for (scenario, name), values in by_name.items():
        yield row([scenario, f"`{name}`", f"{statistics.median(values):,.0f}", f"{max(values):,.0f}"])


def totals(runs):
    total = lambda key: sum(run[key] for run in runs)
    registered = total("registered")
    kills = sum(count for run in runs for fault, count in run["strikes"].items()
                if fault.startswith("kill -9") and fault != "kill -9 with work in hand")
    words = {"lost": "lost", "early": "early", "after_cancel": "handled after a cancel that had answered",
             "stale_accepted": "settled under a lost lease", "two_leases": "two live leases"}
    yield (f"{registered:,} registrations, {total('cancelled'):,} cancels, {kills:,} schedulers killed: "
           + ", ".join(f"{words[key]} {zero(total(key), registered)}" for key in BROKEN) + ".")


def conditions(args):
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"v=(\S+)", redis)
    return (f"`scripts/prove --seed {args.seed} --scale {args.scale}` on {datetime.date.today()}: Redis "
            f"{version.group(1) if version else '?'}, {platform.system()} on {platform.machine()}. A zero stands with the bound "
            "that its number of registrations gives at 95 % confidence (3/n).")


def main():
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("report")
    flags.add_argument("--scale", required=True)
    flags.add_argument("--seed", required=True)
    flags.add_argument("--docs")
    args = flags.parse_args()
    runs = [json.loads(line) for line in open(args.report)]
    text = "\n".join([conditions(args), "", *totals(runs), "", *scenarios(runs), "", *measured(runs)])
    print(text)
    if args.docs:
        document = open(args.docs).read()
        before, after = document.index(BEGIN) + len(BEGIN), document.index(END)
        open(args.docs, "w").write(f"{document[:before]}\n{text}\n{document[after:]}")


if __name__ == "__main__":
    main()
