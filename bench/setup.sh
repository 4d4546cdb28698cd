#!/bin/sh
# Installs what the benchmark compares with: `make bench-setup`. Safe to run again.
#
# Debian's packages are installed when run as root; anybody else is told what is missing. The
# Node and Python peers and the compiled load generators stay inside bench/. What cannot be
# installed is said and left out: run.py measures whatever is there.
set -u
cd "$(dirname "$0")" || exit 1

left_out=""
leave_out() {
    echo "bench-setup: $1" >&2
    left_out="$left_out$2 "
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- Debian ---------------------------------------------------------------------------------------
wanted=""
for pair in nginx:nginx haproxy:haproxy caddy:caddy go:golang-go wrk:wrk node:nodejs npm:npm \
    openssl:openssl taskset:util-linux; do
    have "${pair%%:*}" || wanted="$wanted ${pair#*:}"
done
if [ -n "$wanted" ]; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        # Debian starts a server as soon as it is installed; these are only ever started by run.py.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
            trap 'rm -f "$policy"' EXIT
            trap 'exit 130' INT TERM
        fi
        apt-get update -q || echo "bench-setup: apt-get update failed; trying with the lists at hand" >&2
        for package in $wanted; do
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package" ||
                leave_out "apt-get could not install $package" "$package"
        done
    else
        leave_out "not installed, and only root can: apt-get install$wanted" "$wanted"
    fi
fi

# --- Go: the peer, the constant-rate generator, the event-stream fan-out, the WebSockets ----------
mkdir -p build
if have go; then
    (cd peers/go && GOFLAGS=-mod=mod GOPROXY=off go build -o ../../build/goproxy .) ||
        leave_out "peers/go does not build" goproxy
    (cd load && GOFLAGS=-mod=mod GOPROXY=off go build -o ../build/ ./...) ||
        leave_out "load/ does not build" load
fi

# --- Node -----------------------------------------------------------------------------------------
if have npm && have node; then
    if [ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ]; then
        (cd peers/fastify && npm install --no-package-lock --no-audit --no-fund --loglevel=error) ||
            leave_out "npm could not install fastify" fastify
        (cd peers/http_proxy && npm install --no-package-lock --no-audit --no-fund --loglevel=error) ||
            leave_out "npm could not install http-proxy" http-proxy
    else
        leave_out "fastify 5 needs Node 20 or later, this is $(node --version)" fastify
    fi
fi

# --- Python ---------------------------------------------------------------------------------------
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv || leave_out "python3 -m venv failed (apt-get install python3-venv)" fastapi
fi
if [ -x .venv/bin/python ]; then
    .venv/bin/python -m pip install -q -r peers/requirements.txt ||
        leave_out "pip could not install FastAPI and httpx" fastapi
fi

if [ -n "$left_out" ]; then
    echo "bench-setup: done, without: $left_out"
else
    echo "bench-setup: done"
fi
