"""apalis with apalis-redis, built from crates."""

import pathlib
import re
import shutil

from . import install

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE / "apalis"


class Apalis:
    name = "apalis"
    server = "redis"
    entry = "task with an argument of 13 bytes"
    # What push_all is given goes into one call of a script.
    put_settings = [{"batch": 1000}, {"batch": 1000, "processes": 2}]
    # Larger batches than the default of 10, as its documentation advises for throughput; a short poll interval, since the
    # poll is what finds tasks that are due. `lock_tasks` (on by default) looks for each task in the list of those that are
    # ready, from one end to the other; without it a task is still in the set of its worker, and given to another if that
    # dies. Events, which nobody hears here, are off in the driver.
    drain_settings = [
        {"batch": 100, "poll_ms": 10},
        {"batch": 1000, "poll_ms": 10},
        {"batch": 1000, "poll_ms": 10, "lock_tasks": True},
    ]
    late_settings = [{"batch": 100, "poll_ms": 10}, {"batch": 1000, "poll_ms": 10}, {"batch": 1000, "poll_ms": 1}]
    # A poll moves all that are due by one call of Lua's unpack, which takes less than 8,000. If it does not get through
    # with all, it is measured with so many.
    fewer_due = 7000

    def install(self, args):
        # A copy: cargo leaves nothing beside the sources, and does not look for a workspace above them.
        place = args.cache / "apalis"
        shutil.copytree(PROJECT, place, dirs_exist_ok=True)
        install.run(["cargo", "build", "--release", "--quiet", "--locked"], "building apalis",
                    limit_s=install.BUILD_LIMIT_S, cwd=place)
        self.binary = str(place / "target/release/peer-apalis")
        lock = (PROJECT / "Cargo.lock").read_text()
        version = lambda crate: re.search(rf'name = "{crate}"\nversion = "(.*)"', lock)[1]
        return f"{version('apalis')}, apalis-redis {version('apalis-redis')}"

    def driver(self, settings):
        return [self.binary], {"RUST_BACKTRACE": "0"}

    def pending(self, server):
        return int(server.call("ZCARD", "bench:scheduled"))
