#!/bin/sh
# The host's disks, and clients as network namespaces beside its own: who may write, who may read, a stranger.
set -eu
mkdir -p /etc/lab
printf '%s 2G\n' disk1 disk2 disk3 disk4 disk5 >/etc/lab/disks
systemctl start lab-disks
ip link add clients type bridge
ip address add 192.0.2.1/24 dev clients
ip link set clients up
for client in writer:11 reader:12 stranger:13; do
    name=${client%:*}
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip link set "$name" master clients up
    ip -n "$name" address add "192.0.2.${client#*:}/24" dev eth0
    ip -n "$name" link set eth0 up
done
