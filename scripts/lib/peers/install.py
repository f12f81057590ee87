"""Brings what a peer needs, if it is not there. Nothing but Debian packages is put outside the cache directory."""

import functools
import os
import pathlib
import shutil
import subprocess

from .errors import Unavailable

LIB = pathlib.Path(__file__).resolve().parent.parent
APT_LIMIT_S, BUILD_LIMIT_S = 600, 1800


def run(words, why, limit_s=APT_LIMIT_S, **options):
    """Runs a command and answers what it prints; `why` says what fails if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, **options)
    except FileNotFoundError:
        raise Unavailable(f"{why}: there is no {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{why}: {words[0]} took more than {limit_s} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise Unavailable(f"{why}: {lines[-1]}")
    return done.stdout


def redis_server():
    """redis-server, the way that the other scripts install it."""
    run(["bash", "-euo", "pipefail", "-c", "source install.sh; need_redis"], "redis-server", cwd=LIB)


@functools.cache
def apt_lists():
    run([*as_root(), "apt-get", "update", "-qq"], "apt-get update")


def as_root():
    return [] if os.geteuid() == 0 else ["sudo"]


def debian(commands, packages):
    """Installs the packages unless the commands are there already."""
    if not all(map(shutil.which, commands)):
        apt_install(packages)


def apt_install(packages):
    names = " and ".join(packages)
    if not shutil.which("apt-get"):
        raise Unavailable(f"needs {names}: this script installs with apt-get only, so install it by hand")
    apt_lists()
    environment = [*as_root(), "env", "DEBIAN_FRONTEND=noninteractive"]
    run([*environment, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], f"installing {names}")


def unpacked_debian(package, place):
    """Unpacks a package without installing it: a server among its files is not started as a service of the machine."""
    if not shutil.which("apt-get"):
        raise Unavailable(f"needs {package}: this script installs with apt-get only, so install it by hand")
    place.mkdir(parents=True, exist_ok=True)
    apt_lists()
    # As root apt would change to a user who may not write here.
    run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], f"downloading {package}", cwd=place)
    files = sorted(place.glob(f"{package}_*.deb"))
    run(["dpkg-deb", "--extract", str(files[-1]), str(place)], f"unpacking {package}")
