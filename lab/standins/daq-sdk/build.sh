#!/bin/bash
# build.sh DIRECTORY VERSION: make the stand-in of the media of the camera's DAQ, DIRECTORY/VERSION.tgz, the same bytes each time. **It is not the
# DAQ's SDK**: it has the layout and the two commands that the services run, which start a daemon that only tells what it was started with, and
# one more that prints what the daemons tell. Nobody outside knows whether the real one has such a command, or what it is called and prints.
set -euo pipefail
to=$1 version=$2
mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/$version
mkdir -p "$top/x86/bin" "$top/x86/lib"
echo "Stand-in: this is not the DAQ's SDK $version." | tee "$top/STANDIN" >"$top/x86/lib/STANDIN"

cat >"$top/x86/bin/dsid_startup" <<'END'
#!/usr/bin/python3
"""Stand-in: this is not the DAQ's. It ends when its daemon is there, which tells whoever connects to BACKINGDIR/<name>.socket of itself.

dsid_startup BACKINGDIR INTERFACE
dsm_startup BACKINGDIR INTERFACE LOCATION... | NONE
"""
import json
import os
import re
import socket
import sys

name = os.path.basename(sys.argv[0])[: -len("_startup")]
if len(sys.argv) < 3 or (len(sys.argv) > 3) != (name == "dsm"):
    sys.exit(__doc__)
backing, interface, *places = sys.argv[1:]
for place in places:
    if places != ["NONE"] and not re.fullmatch("[0-9]+/[0-9]+/[0-9]+", place):
        sys.exit(f"{place} is no place in a crate")
socket.if_nametoindex(interface)
path = os.path.join(backing, f"{name}.socket")
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
if os.fork():
    os._exit(0)
os.setsid()
while True:
    caller = server.accept()[0]
    fifo = os.sched_getscheduler(0) == os.SCHED_FIFO
    caller.sendall(json.dumps({"interface": interface, "places": places, "uid": os.getuid(), "gid": os.getgid(), "fifo": fifo}).encode())
    caller.close()
END
cp "$top/x86/bin/dsid_startup" "$top/x86/bin/dsm_startup"
cat >"$top/x86/bin/daq_partitions" <<'END'
#!/usr/bin/python3
"""Stand-in: this is not the DAQ's. It prints as JSON what the stand-in's daemons say of themselves.

daq_partitions BACKINGDIR
"""
import json
import os
import socket
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
backing = sys.argv[1]
if not os.path.isdir(backing):
    sys.exit(f"{backing} is no directory")
told = {}
for name in ("dsid", "dsm"):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        try:
            caller.connect(os.path.join(backing, f"{name}.socket"))
            with caller.makefile() as answer:
                told[name] = json.load(answer)
        except (OSError, ValueError):
            pass
servers = {name: "up" if name in told else "down" for name in ("dsid", "dsm")}
sources = [{"place": place, "state": "up"} for place in told.get("dsm", {}).get("places", []) if place != "NONE"]
partition = {"name": os.path.basename(os.path.normpath(backing)), "state": servers["dsm"]}
partition |= {"interface": told.get("dsm", {}).get("interface", ""), "servers": servers, "sources": sources}
print(json.dumps({"partitions": [partition]}))
END
find "$top" -type d -exec chmod 0755 {} + -o -exec chmod 0644 {} +
chmod 0755 "$top"/x86/bin/*
tar --create --directory "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "$version" | gzip --no-name --best >"$to/$version.tgz.new"
mv "$to/$version.tgz.new" "$to/$version.tgz"
