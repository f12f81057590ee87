"""Sidekiq, as Debian packages it."""

import pathlib

from . import install
from .errors import Unavailable

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "require 'sidekiq'; require 'hiredis'; puts Sidekiq::VERSION, RUBY_VERSION"
MAJOR = "6"  # the driver starts Sidekiq in its own process, and each major version does that differently


def ruby(*words):
    """What Ruby prints, or None if it cannot."""
    try:
        return install.run(["ruby", *words], "ruby")
    except Unavailable:
        return None


class Sidekiq:
    name = "Sidekiq"
    server = "redis"
    entry = "job with one argument of 13 bytes"
    # push_bulk of 1000, which its documentation gives as the most that is sensible.
    put_settings = [{"batch": 1000}, {"batch": 1000, "processes": 2}]
    # Its documentation advises a process for each core, as Ruby runs one thread at a time, and few threads where handlers
    # do not wait. Each process also moves what is due into the queue, one by one, so more of them than cores may help.
    # Each process looks for what is due every `poll_s` on average (`poll_interval_average`). By default it is 5 s over all
    # processes, which its documentation calls not meant to be exact to the second; here lateness is asked for.
    drain_settings = [
        {"processes": 2, "concurrency": 5, "poll_s": 0.1},
        {"processes": 3, "concurrency": 2, "poll_s": 0.1},
        {"processes": 4, "concurrency": 1, "poll_s": 0.1},
        {"processes": 6, "concurrency": 1, "poll_s": 0.1},
    ]
    late_settings = [
        {"processes": 2, "concurrency": 5, "poll_s": 0.1},
        {"processes": 2, "concurrency": 2, "poll_s": 0.02},
        {"processes": 3, "concurrency": 5, "poll_s": 0.02},
        {"processes": 4, "concurrency": 1, "poll_s": 0.02},
    ]

    def install(self, args):
        if ruby("-e", VERSION) is None:
            install.apt_install(["ruby-sidekiq", "ruby-hiredis"])
        sidekiq, of_ruby = install.run(["ruby", "-e", VERSION], "ruby-sidekiq").split()
        if sidekiq.split(".")[0] != MAJOR:
            raise Unavailable(f"the Sidekiq that is installed is {sidekiq}, and the driver here is for {MAJOR}")
        # Ruby's compiler makes it faster, where Ruby was built with it.
        self.flags = ["--yjit"] if ruby("--yjit", "-e", "") is not None else []
        return f"{sidekiq}, ruby {of_ruby}{' with YJIT' if self.flags else ''}, hiredis"

    def driver(self, settings):
        return ["ruby", *self.flags, str(HERE / "sidekiq.rb")], {"RACK_ENV": "production"}

    def pending(self, server):
        return int(server.call("ZCARD", "schedule"))
