#!/bin/bash
# build.sh DIRECTORY: make the stand-in of the GPFS media, Debian packages of IBM's names. **It is not GPFS**: it has the commands that the
# role calls, keeps what they were told in /var/mmfs/gen/mmsdrfs, and mounts a tmpfs where GPFS would mount a cluster's file system.
set -euo pipefail
to=$1
mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

package() { # package NAME: from what lies in $work/NAME
    mkdir -p "$work/$1/DEBIAN"
    printf '%s\n' "Package: $1" 'Version: 0.0.1-standin' 'Architecture: all' 'Maintainer: LSST Data Facility <ldf@lsst.internal>' \
        'Description: Stand-in of the licensed package of this name' >"$work/$1/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$work/$1" "$to/$1_0.0.1-standin_all.deb" >/dev/null
}

command() { # command NAME: a command of the stand-in, from stdin
    mkdir -p "$work/gpfs.base/usr/lpp/mmfs/bin"
    { printf '#!/bin/bash\n# Stand-in: this is not GPFS.\nset -eu\nstate=/var/mmfs/gen/mmsdrfs\n'; cat; } >"$work/gpfs.base/usr/lpp/mmfs/bin/$1"
    chmod 0755 "$work/gpfs.base/usr/lpp/mmfs/bin/$1"
}

command mmcrcluster <<<'mkdir -p /var/mmfs/gen; grep -q . "$2"; echo "cluster $4" >$state'
command mmchlicense <<<'[ -e $state ]'
command mmchconfig <<<'[ -e $state ]'
command mmstartup <<<'[ -e $state ]; touch /run/gpfs-standin'
command mmgetstate <<<'[ -e /run/gpfs-standin ] && state=active || state=down; echo "mmgetstate::0:1:::$(hostname):1:$state:1:1:1:quorum node:"'
command mmcrnsd <<<'grep -q ^%nsd: "$2"'
command mmcrfs <<<'grep -q ^%nsd: "$3"; echo "filesystem $1 $5" >>$state'
command mmmount <<<'path=$(awk -v name="$1" '\''$1 == "filesystem" && $2 == name {print $3}'\'' $state); mount -t tmpfs gpfs-standin "$path"'
for name in gpfs.base gpfs.gpl gpfs.gskit; do package $name; done
