# Sourced by the scripts beside this folder: makes sure that the tools they call are there.

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs a package by the platform's package manager; arguments: apt, brew, dnf, apk and pacman name.
install_package() {
  if command -v apt-get >/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"
  elif command -v brew >/dev/null; then
    brew install "$2"
  elif command -v dnf >/dev/null; then
    as_root dnf install -y -q "$3"
  elif command -v apk >/dev/null; then
    as_root apk add -q "$4"
  elif command -v pacman >/dev/null; then
    as_root pacman -S --noconfirm --quiet "$5"
  else
    echo "no package manager found: please install $1 by hand" >&2
    return 1
  fi
}

need_redis() {
  command -v redis-server >/dev/null || {
    echo "installing redis-server" >&2
    install_package redis-server redis redis redis redis
  }
}

# Steps the clock of a Redis in tests, on Linux. They skip what they cannot do without it, so it is no reason to fail,
# nor to ask for a password.
need_faketime() {
  local dir
  [ "$(uname)" = Linux ] || return 0
  for dir in /usr/lib/*/faketime /usr/lib/faketime /usr/lib64/faketime /usr/local/lib/faketime; do
    [ ! -e "$dir/libfaketimeMT.so.1" ] || return 0
  done
  if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
    echo "installing libfaketime" >&2
    install_package faketime libfaketime libfaketime libfaketime libfaketime && return 0
  fi
  echo "no libfaketime: tests that step the clock of Redis are skipped" >&2
}

# Checks alert rules. It is unpacked, not installed: the package would start a Prometheus.
need_promtool() {
  local dir=target/tools
  PATH="$PWD/$dir/usr/bin:$PATH"
  command -v promtool >/dev/null && return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
    echo "no promtool: alert rules are not checked" >&2
    return 1
  }
  echo "fetching promtool" >&2
  mkdir -p "$dir"
  (
    cd "$dir"
    apt-get download -qq prometheus 2>/dev/null || { as_root apt-get update -qq && apt-get download -qq prometheus; }
    dpkg-deb -x prometheus_*.deb .
  ) || { echo "promtool cannot be fetched: see above" >&2; exit 1; }
}

# True if packages can be installed without asking anybody.
may_install() {
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

# Looks at the dashboard.
need_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || {
    may_install || return 1
    echo "installing chromium" >&2
    install_package chromium chromium chromium chromium chromium
  }
}

# Drives the browser.
need_npm() {
  command -v npm >/dev/null || {
    may_install || return 1
    echo "installing npm" >&2
    install_package npm node npm npm npm
  }
}

need_cargo() {
  # rustup installs here; a login shell knows it, a script may not.
  command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || {
    echo "cargo is missing: install Rust with rustup (https://rustup.rs), then run this again" >&2
    return 1
  }
  # The linker that rustc calls.
  command -v cc >/dev/null || install_package gcc gcc gcc build-base gcc
}
