#!/bin/sh
# A crate behind the port of the DAQ and a stranger behind another card, as network namespaces beside the host's own.
set -eu
for client in crate:daq-port stranger:other; do
    name=${client%:*} card=${client#*:}
    ip netns add "$name"
    # It hears of a server before it has an address.
    ip netns exec "$name" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    ip link add "$card" type veth peer name eth0 netns "$name"
    ip link set "$card" up
    ip -n "$name" link set eth0 up
done
ip address add 192.0.2.1/24 dev other
ip -n stranger address add 192.0.2.2/24 dev eth0
ip -n stranger route add 192.168.100.0/24 via 192.0.2.1
