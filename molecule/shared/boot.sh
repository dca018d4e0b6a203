#!/bin/bash
# boot.sh NAME [podman run argument...]: start a systemd container and wait for its boot.
# The packages that earlier scenarios downloaded lie under its apt cache as an overlay; reap.sh keeps what it adds. They may only be
# added to while no overlay is in use, hence the lock.
set -euo pipefail
name=$1
shift
top=$(cd "$(dirname "$0")/../.." && pwd)
network=lsst-molecule
podman() { "$top/lab/podman" "$@"; }
mkdir -p "$top/.cache/debs/partial" "$top/.cache/debs-new" "$top/.cache/molecule/machines"
exec 9>"$top/.cache/debs.lock"
flock 9
if [ -z "$(podman ps --quiet --filter label=lsst.molecule)" ]; then
    find "$top/.cache/debs-new" -name '*.deb' -exec mv -t "$top/.cache/debs" {} +
fi
podman network exists $network || podman network create $network >/dev/null || podman network exists $network
podman rm --force --time 0 --volumes --ignore "$name" >/dev/null
podman run --detach --name "$name" --hostname "$name" --pidfile "$top/.cache/molecule/machines/$name.pid" --network $network --label lsst.molecule=1 \
    --systemd=always --privileged --pids-limit=-1 --ulimit nofile=20000:20000 --ulimit nproc=20000:20000 \
    --volume "$top/.cache/debs:/var/cache/apt/archives:O" --volume "$top/.cache/debs-new:/srv/debs-new" \
    "$@" localhost/lsst-lab-host:latest >/dev/null 9>&-
# As udev does elsewhere. Otherwise the bridge has the lowest address of its containers' and changes with it when another scenario ends: those that
# go on would ask a name server that is not there, for as long as they remember the old one.
ip link set dev "$(podman network inspect --format '{{.NetworkInterface}}' $network)" address 02:00:00:00:00:01
flock --unlock 9
for _ in $(seq 150); do
    case $(podman exec "$name" systemctl is-system-running --wait 2>/dev/null) in running | degraded) exit 0 ;; esac
    if [ "$(podman inspect --format '{{.State.Running}}' "$name")" != true ]; then
        echo "$name died while booting (is fs.inotify.max_user_instances at least 1024?)" >&2
        podman logs "$name" >&2
        exit 1
    fi
    sleep 0.2
done
echo "$name did not boot within 30 s" >&2
exit 1
