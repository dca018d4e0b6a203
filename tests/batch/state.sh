#!/bin/bash
# state.sh: what the host holds. Files with kind, mode, owners and content, units, packages; a line each.
# Left out: what differs between two hosts anyway, and what only a run's own files are.
left_out=(! -path '*/.ansible*' ! -path '*/__pycache__*' ! -name '*-' ! -name 'ssh_host_*' ! -name shadow ! -name .lock ! -name .updated)
for name in hostname hosts machine-id resolv.conf; do left_out+=(! -path "/etc/$name"); done
# Units that come and go by themselves.
restless='^(systemd-tmpfiles-clean|apt-daily|dpkg-db-backup|logrotate|man-db|prometheus-node-exporter-)'
units() { systemctl --plain --no-legend --type=service,socket,timer "$@" | sed 's/  */ /g'; }

find /opt /etc /home /root /usr/local -xdev "${left_out[@]}" -printf '%p %y %m %u %g %l\n' | sort
find /opt /etc /home -xdev -type f "${left_out[@]}" -exec sha1sum {} + | sort -k2
units list-units --all | cut -d' ' -f1-4 | grep -vE "$restless" | sort
units list-unit-files | cut -d' ' -f1-2 | sort
dpkg-query --show --showformat '${Package} ${Version} ${Status}\n'
