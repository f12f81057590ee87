"""The table and the JSON document."""

import json

HEADS = ("peer", "register", "drain", "late p50", "p99", "max", "early", "bytes each")
NOTHING = "–"


def rate(job):
    """Thousands a second: the median, and the least and greatest."""
    if "failed" in job:
        return "failed"
    low, high = job["per_s"]["min"], job["per_s"]["max"]
    return f"{thousands(job['per_s']['median'])} ({thousands(low)} to {thousands(high)})"


def thousands(value):
    return f"{value / 1000:.1f}" if value < 100_000 else f"{value / 1000:.0f}"


def milliseconds(job, name):
    if name not in job:
        return NOTHING
    value = job[name]["median"]
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def cells(row):
    register, late = row["register"], row["lateness"]
    size = f"{register['bytes']['median']:.0f}" if "bytes" in register else NOTHING
    early = f"{late['early']['median']:.0f}" if "early" in late else NOTHING
    times = [milliseconds(late, name) for name in ("p50", "p99", "max")]
    return (row["name"], rate(register), rate(row["drain"]), *times, early, size)


def notes(row):
    """The version, and the settings of each job with what is to be said of it."""
    yield f"{row['name']} {row['version']}: each entry is one {row['entry']}"
    for name in ("register", "drain", "lateness"):
        job = row[name]
        if "failed" in job:
            yield f"  {name}: {job['failed']}"
            continue
        settings = ", ".join(f"{key} {value}" for key, value in job["settings"].items())
        few = f"; with {job['entries']:,} due at once, as with all of them: {job['of_all']}" if "of_all" in job else ""
        yield f"  {name}: {settings}{few}"


def table(document):
    rows = [HEADS] + [cells(row) for row in document["peers"]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    log = "append-only log, synced every second" if document["aof"] else "nothing persistent"
    lines += ["", f"register, drain: thousands of entries a second, {document['ids']:,} of them; median (least to greatest) of "
              f"{document['runs']} runs",
              f"late: ms from the deadline to the handler, {document['rate']:,} deadlines a second for {document['span_s']} s; "
              "medians of the runs",
              f"bytes each: memory of the server for a pending entry; {document['cores']} cores, "
              f"redis-server {document['redis_version']}, {log}", ""]
    for row in document["peers"]:
        lines += notes(row)
    lines += [f"skipped: {name}: {why}" for name, why in document["skipped"].items()]
    return "\n".join(lines)


def as_json(document):
    return json.dumps(document, indent=2)
