#!/bin/bash
# setup.sh [--python311]: Debian packages, the virtual environment and the host image. Does nothing when nothing changed; repairs what a
# killed run left. With --python311 only the second environment (.cache/venv-py311) that the tests use to prove the older lock.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CACHE_DIR=$PWD/.cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p .cache

packages='podman crun netavark aardvark-dns mmdebstrap debian-archive-keyring iptables nftables iproute2 openssh-client openssl gpg gpg-agent python3-venv tcpdump git jq gcc libc6-dev'

step() { printf 'setup: %s (%d s)\n' "$*" $SECONDS; }

install_packages() {
    local missing=
    for name in $packages; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=" $name"
    done
    [ -z "$missing" ] && { step "Debian packages: all there"; return; }
    step "Debian packages: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -qq --no-install-recommends $missing >/dev/null
}

# Every interpreter that may be there, newest first. Each is tried: a version manager's shim exists without its interpreter.
candidates() {
    local minor
    for minor in "$@"; do
        echo "python3.$minor" "/usr/bin/python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python3 "$HOME"/.local/share/uv/python/cpython-3."$minor".*/bin/python3
    done
    echo python3 /usr/bin/python3
}

works() { # works INTERPRETER MINOR...: whether it runs, is one of these versions, can make an environment and unpacks archives safely (3.11.4)
    "$1" - "${@:2}" <<'P' 2>/dev/null
import sys, ssl, sqlite3, venv, ensurepip, ctypes
from tarfile import data_filter
sys.exit(sys.version_info[0] != 3 or str(sys.version_info[1]) not in sys.argv[1:])
P
}

find_python() { # find_python MINOR...: path of the first interpreter that works
    local candidate
    for candidate in $(candidates "$@"); do
        if works "$candidate" "$@"; then
            "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return
        fi
    done
    return 1
}

environment() { # environment DIRECTORY INTERPRETER LOCK
    local stamp
    stamp=$("$2" -V; sha256sum "$3")
    if [ "$(cat "$1/complete" 2>/dev/null)" = "$stamp" ] && "$1/bin/python" -c '' 2>/dev/null; then
        step "$1: up to date"
        return
    fi
    step "$1: installing $3 for $("$2" -V), about half a minute"
    rm -rf "$1"
    "$2" -m venv "$1"
    # A tenth of the 16,000 files is ever imported, and compiled then; all of them would take three quarters of a minute.
    "$1/bin/pip" install --quiet --no-compile --require-hashes --requirement "$3"
    # The wrapper enters the namespace where containers run; ansible, molecule and testinfra look podman up on the PATH.
    ln -sf "$PWD/lab/podman" "$1/bin/podman"
    # Ansible's and Molecule's own files stay in the checkout too.
    printf 'export ANSIBLE_HOME="%s/.cache/ansible"\n' "$PWD" >>"$1/bin/activate"
    echo "$stamp" >"$1/complete"
}

if [ "${1:-}" = --python311 ]; then
    python=$(find_python 11) || { echo "setup: no Python 3.11.4 or newer 3.11 on this machine; the second lock stays untested here"; exit 3; }
    environment .cache/venv-py311 "$python" requirements-py311.lock
    exit
fi

[ "$(id -u)" = 0 ] || { echo "setup: you are not root; containers, networks and Debian packages need root. Run it as root." >&2; exit 1; }
install_packages
if python=$(find_python 14 13 12); then
    lock=requirements.lock
elif python=$(find_python 11); then
    lock=requirements-py311.lock
    echo "WARNING: no Python 3.12 or newer here; going on with $("$python" -V) and ansible 12. Install python3.12 or newer for ansible 14." >&2
else
    echo "setup: no usable Python: 3.12 to 3.14 (ansible 14) or 3.11.4 (ansible 12) is needed. Install python3 and python3-venv." >&2
    exit 1
fi
lab/image/build.sh &
image=$!
environment .cache/venv "$python" "$lock"
wait $image
step "done. Next: . .cache/venv/bin/activate, or make base"
