#!/bin/bash
# reap.sh NAME: keep the packages that the container downloaded, then remove it.
top=$(cd "$(dirname "$0")/../.." && pwd)
"$top/lab/podman" exec "$1" sh -c 'cd /var/cache/apt/archives && for deb in *.deb; do [ -e "$deb" ] && cp -n "$deb" /srv/debs-new/; done' >/dev/null 2>&1
exec "$top/lab/podman" rm --force --ignore --time 0 --volumes "$1"
