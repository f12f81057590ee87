"""beanstalkd, a work queue of its own, with a client written for this benchmark."""

import pathlib
import re
import shutil
import sys

from . import install

HERE = pathlib.Path(__file__).resolve().parent


class Beanstalkd:
    name = "beanstalkd"
    server = "beanstalkd"
    entry = "job with a body of 13 bytes"
    # Its protocol has no bulk commands, so they are pipelined: what is written at once saves round trips, and beanstalkd
    # takes one after the other from each connection.
    put_settings = [{"pipelined": 100}, {"pipelined": 1000}, {"pipelined": 1000, "processes": 2}]
    # More connections let it go on with one while the client reads another. A second process of the client takes a core
    # from beanstalkd if there are but two.
    drain_settings = [
        {"connections": 1, "pipelined": 100},
        {"connections": 4, "pipelined": 50},
        {"connections": 2, "pipelined": 1000},
        {"connections": 1, "pipelined": 100, "processes": 2},
    ]
    late_settings = [{"connections": 1, "pipelined": 100}, {"connections": 4, "pipelined": 50}]

    def install(self, args):
        self.binary = shutil.which("beanstalkd")
        if not self.binary:
            unpacked = args.cache / "beanstalkd" / "usr/bin/beanstalkd"
            if not unpacked.exists():
                install.unpacked_debian("beanstalkd", args.cache / "beanstalkd")
            self.binary = str(unpacked)
        version = install.run([self.binary, "-v"], "beanstalkd")
        return re.search(r"[\d.]+\d", version)[0] + f", python {sys.version.split()[0]}"

    def driver(self, settings):
        return [sys.executable, str(HERE / "beanstalkd_driver.py")], {"PYTHONUNBUFFERED": "1"}

    def pending(self, server):
        return server.stat("current-jobs-delayed")
