#!/bin/bash
# packages.sh: the Debian packages that the project's files name; nothing before an image was built.
# packages.sh cut ROOT: leave those in the package lists below ROOT, and all that they need.
# With Debian's 68,000 packages each apt takes a second of CPU more, and a test run has hundreds of them.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
all=.cache/debian-packages
# Whole words, or "Sent" names the package ent.
named() {
    grep -rohP '(?<![A-Za-z0-9_])[a-z0-9][a-z0-9+.-]++(?![A-Z_])' --exclude-dir=__pycache__ inventories lab molecule playbooks roles tests |
        sort -u | comm -12 - $all
}

if [ "${1:-}" != cut ]; then
    [ ! -e $all ] || named
    exit
fi
root=$2
chroot "$root" apt-cache pkgnames | sort -u >$all
named | chroot "$root" xargs apt-cache depends --recurse --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances |
    grep -oE '^[a-z0-9][^: ]*' | sort -u >"$root/tmp/kept"
for list in "$root"/var/lib/apt/lists/*_Packages; do
    # Its InRelease stays, so that apt takes the list for the newest one as long as Debian's is the same.
    awk 'NR == FNR { kept[$1]; next } $2 in kept' "$root/tmp/kept" RS= ORS='\n\n' "$list" >"$root/tmp/list"
    cat "$root/tmp/list" >"$list"
done
rm "$root/tmp/kept" "$root/tmp/list"
