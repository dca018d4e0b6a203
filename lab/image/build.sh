#!/bin/bash
# build.sh: make the image of the lab's and Molecule's hosts, Debian 13 as an installer leaves it. Nothing to do when it is up to date.
# No mirror is named: mmdebstrap takes Debian's default. Downloaded packages are kept in .cache/debs.
# A package that the project names for the first time makes it anew (packages.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
tag=localhost/lsst-lab-host:latest
cache=$top/.cache/debs
podman=$top/lab/podman
content() { { cat "$here"/*; "$here/packages.sh"; } | sha256sum | cut -c1-16; }

if [ "$("$podman" image inspect --format '{{index .Labels "lsst.content"}}' $tag 2>/dev/null)" = "$(content)" ]; then
    echo "image $tag: up to date"
    exit 0
fi
echo "image $tag: building (about a minute)"
mkdir -p "$cache/partial"
tar=$(mktemp --suffix=.tar)
trap 'rm -f "$tar"' EXIT

packages=systemd,systemd-sysv,dbus,python3,python3-apt,sudo,ca-certificates,iproute2,procps,gnupg,openssh-server,nftables,iputils-ping,curl,acl,openssl
# What needs hardware, consoles or the network on its own; libpam-systemd would want logind.
masked='systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service
        systemd-modules-load.service systemd-logind.service systemd-firstboot.service systemd-remount-fs.service
        systemd-networkd.socket getty.target console-getty.service sys-kernel-config.mount sys-kernel-debug.mount
        sys-kernel-tracing.mount dev-hugepages.mount apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
        e2scrub_all.timer fstrim.timer'
# Look for such hardware, or at the kernel's command line, at every daemon-reload.
# A host asks nobody while it installs: 70debconf would start a perl for each installation to say so.
generators='debug getty gpt-auto hibernate-resume rc-local run ssh system-update tpm2'

extra=()
# The machine's own extra CAs, none on most: hosts then trust what the machine trusts.
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    extra+=(--customize-hook='sync-in /usr/local/share/ca-certificates /usr/local/share/ca-certificates'
            --customize-hook='chroot "$1" update-ca-certificates >/dev/null')
fi
for unit in "$here"/*.service; do
    [ -e "$unit" ] || continue
    extra+=(--customize-hook="copy-in '$unit' /etc/systemd/system" --customize-hook="chroot \"\$1\" systemctl --quiet enable $(basename "$unit")")
done
for script in "$here"/lab-*; do
    case $script in *.service) continue ;; esac
    extra+=(--customize-hook="copy-in '$script' /usr/local/sbin" --customize-hook="chmod 0755 \"\$1/usr/local/sbin/$(basename "$script")\"")
done

mmdebstrap --quiet --variant=apt --format=tar --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Binary::apt::APT::Keep-Downloaded-Packages "true"' \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/examples/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --skip=essential/unlink,cleanup/apt/lists,cleanup/apt/cache \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
    --setup-hook="sync-in '$cache' /var/cache/apt/archives" \
    --customize-hook='for n in 1 2 3 4 5 6 7 8 9; do mkdir -p "$1/usr/share/man/man$n"; done' \
    --customize-hook='for u in '"$(echo $masked)"'; do ln -sf /dev/null "$1/etc/systemd/system/$u"; done' \
    --customize-hook='mkdir -p "$1/etc/systemd/system-generators"; for g in '"$generators"'; do ln -s /dev/null "$1/etc/systemd/system-generators/systemd-$g-generator"; done' \
    --customize-hook='rm "$1/etc/apt/apt.conf.d/70debconf"' \
    --customize-hook='ln -sf /usr/lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"' \
    --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; mkdir -p "$1/etc/systemd/system/ssh.service.d"; printf "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n" >"$1/etc/systemd/system/ssh.service.d/hostkeys.conf"' \
    --customize-hook='mkdir -p "$1/etc/systemd/journald.conf.d"; printf "[Journal]\n# What the kernel says is about the whole machine.\nReadKMsg=no\n" >"$1/etc/systemd/journald.conf.d/lab.conf"' \
    --customize-hook='printf "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" >"$1/etc/pip.conf"' \
    "${extra[@]}" \
    --customize-hook="sync-out /var/cache/apt/archives '$cache'" \
    --customize-hook='rm -f "$1"/var/cache/apt/archives/*.deb "$1"/etc/hostname "$1"/etc/resolv.conf; : >"$1/etc/machine-id"' \
    --customize-hook="'$here/packages.sh' cut \"\$1\"" \
    --customize-hook='chroot "$1" apt-cache gencaches' \
    trixie "$tar"
old=$("$podman" image inspect --format '{{.Id}}' $tag 2>/dev/null || true)
"$podman" import --quiet --change 'CMD ["/usr/local/sbin/lab-init"]' --change 'STOPSIGNAL SIGRTMIN+3' --change "LABEL lsst.content=$(content)" "$tar" $tag >/dev/null
printf 'image %s: %d MB\n' $tag $(($(stat -c %s "$tar") / 1000000))
# Hosts that still run from it keep it alive; it goes with the next build then.
[ -z "$old" ] || "$podman" rmi "$old" >/dev/null 2>&1 || true
