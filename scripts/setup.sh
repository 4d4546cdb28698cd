#!/usr/bin/env bash
# Creates .venv and installs the project into it, editable; does nothing when that is up to date.
#   scripts/setup.sh         what `make run` needs
#   scripts/setup.sh dev     and what the tests and the checks need, with a browser if that is easy
# PYTHON chooses the interpreter. What goes wrong is said in one sentence on stderr; the details
# are in build/setup.log.
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:-}
venv=.venv
log=build/setup.log
work=

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

cleanup() { [[ -z $work ]] || rm -rf "$work"; }
trap cleanup EXIT

# --- which Python ---------------------------------------------------------------------------

runs() { "$1" -c '' >/dev/null 2>&1; }
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
version() { "$1" -c 'import platform; print(platform.python_version())'; }
installation() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)'; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if is_recent "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  candidate=${PYTHON:-python3}
  if runs "$candidate"; then
    fail "Python 3.11 or newer is needed, but $candidate is $(version "$candidate"): install one (Debian 12: apt-get install python3) or name it with PYTHON=/path/to/python3."
  elif [[ -n ${PYTHON:-} ]]; then
    fail "PYTHON=$PYTHON can't be run: set it to the path of Python 3.11 or newer."
  fi
  fail "Python 3.11 or newer was not found: install it (Debian 12: apt-get install python3) or name it with PYTHON=/path/to/python3."
}

# --- the environment ------------------------------------------------------------------------

# A copied tree must not keep an environment whose scripts and paths point at the original.
venv_fits() {
  is_recent "$venv/bin/python" && "$venv/bin/python" -c 'import pip' >/dev/null 2>&1 || return 1
  [[ ! -f $venv/.made-in || $(<"$venv/.made-in") == "$PWD" ]] || return 1
  [[ -z ${PYTHON:-} || $(installation "$venv/bin/python") == "$(installation "$PYTHON")" ]]
}

has_ensurepip() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Debian ships ensurepip apart from Python (pythonX.Y-venv). Root gets that package; everybody
# else unpacks the wheel of pip that it would have brought, without installing anything.
install_ensurepip() {
  local package
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  echo "Installing $package, which $1 lacks."
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "$package" >>"$log" 2>&1 && return
  # The package lists of a fresh image are empty.
  { apt-get update && apt-get install -y --no-install-recommends "$package"; } >>"$log" 2>&1
}

find_pip_wheel() {
  compgen -G "/usr/share/python-wheels/pip-*.whl" | head -n 1 && return
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  (cd "$work" && apt-get download python3-pip-whl && dpkg -x python3-pip-whl_*.deb .) >>"$log" 2>&1 || return 1
  compgen -G "$work/usr/share/python-wheels/pip-*.whl" | head -n 1
}

make_venv() {
  local python=$1 wheel
  if has_ensurepip "$python" || { install_ensurepip "$python" && has_ensurepip "$python"; }; then
    "$python" -m venv --clear "$venv" >>"$log" 2>&1 && return
  fi
  work=$(mktemp -d)
  wheel=$(find_pip_wheel) &&
    "$python" -m venv --clear --without-pip "$venv" >>"$log" 2>&1 &&
    "$venv/bin/python" "$wheel/pip" install --no-index "$wheel" >>"$log" 2>&1 && return
  rm -rf "$venv"
  fail "$python can't create a virtual environment: install its venv module (Debian: apt-get install python3-venv) and try again; the details are in $log."
}

# --- the packages ---------------------------------------------------------------------------

install_packages() {
  "$venv/bin/python" -m pip --disable-pip-version-check install --retries 2 -e ".${extra:+[$extra]}" >>"$log" 2>&1 && return
  if grep -qE 'ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name resolution|unreachable|refused' "$log"; then
    fail "The Python packages could not be fetched: check the network (or the proxy settings) and try again; pip's log is $log."
  fi
  fail "The Python packages could not be installed; pip's log is $log."
}

# --- the browser ----------------------------------------------------------------------------

# One test asks a real browser; it is skipped where there is none, so nothing fails here.
install_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then return; fi
  done
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "There is no Chromium (Debian: apt-get install chromium): the test with a browser will be skipped."
    return
  fi
  echo "Installing Chromium for the test with a browser."
  export DEBIAN_FRONTEND=noninteractive
  local install=(timeout 600 apt-get install -y --no-install-recommends chromium)
  "${install[@]}" >>"$log" 2>&1 </dev/null && return
  # The package lists of a fresh image are empty.
  { timeout 120 apt-get update && "${install[@]}"; } >>"$log" 2>&1 </dev/null ||
    echo "Chromium could not be installed: the test with a browser will be skipped; the details are in $log."
}

wanted=$(cksum pyproject.toml twisted/plugins/rtgateway_plugin.py)
stamp=$venv/.installed${extra:+-$extra}
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && venv_fits; then
  exit 0
fi

python=$(find_python)
mkdir -p build
: >"$log"
echo "Setting up $venv with $python (the first time takes a minute) ..."
venv_fits || make_venv "$python"
printf '%s\n' "$PWD" >"$venv/.made-in"
install_packages
[[ $extra != dev ]] || install_browser
# Whatever was installed for another purpose has the packages of the plain installation, too.
printf '%s\n' "$wanted" >"$venv/.installed"
printf '%s\n' "$wanted" >"$stamp"
