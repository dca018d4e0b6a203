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
from pathlib import Path

name = Path(sys.argv[0]).name[: -len("_startup")]
if len(sys.argv) < 3 or (len(sys.argv) > 3) != (name == "dsm"):
    sys.exit(__doc__)
backing, interface, *places = sys.argv[1:]
for place in places:
    if places != ["NONE"] and not re.fullmatch("[0-9]+/[0-9]+/[0-9]+", place):
        sys.exit(f"{place} is no place in a crate")
socket.if_nametoindex(interface)
path = Path(backing) / f"{name}.socket"
path.unlink(missing_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(str(path))
server.listen()
if os.fork():
    os._exit(0)
os.setsid()
while True:
    caller = server.accept()[0]
    fifo = os.sched_getscheduler(0) == os.SCHED_FIFO
    caller.sendall(json.dumps({"interface": interface, "places": places, "uid": os.getuid(), "gid": os.getgid(), "fifo": fifo}).encode())
    caller.close()
