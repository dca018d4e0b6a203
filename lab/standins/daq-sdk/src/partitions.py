#!/usr/bin/python3
"""Stand-in: this is not the DAQ's. It prints as JSON what the stand-in's daemons say of themselves.
Nobody outside knows whether the real SDK has such a command, or what it is called and prints.

daq_partitions BACKINGDIR
"""

import json
import socket
import sys
from pathlib import Path

if len(sys.argv) != 2:
    sys.exit(__doc__)
backing = Path(sys.argv[1]).absolute()
if not backing.is_dir():
    sys.exit(f"{backing} is no directory")
told = {}
for name in ("dsid", "dsm"):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        try:
            caller.connect(str(backing / f"{name}.socket"))
            with caller.makefile() as answer:
                told[name] = json.load(answer)
        except (OSError, ValueError):
            pass
servers = {name: "up" if name in told else "down" for name in ("dsid", "dsm")}
sources = [{"place": place, "state": "up"} for place in told.get("dsm", {}).get("places", []) if place != "NONE"]
partition = {"name": backing.name, "state": servers["dsm"]}
partition |= {"interface": told.get("dsm", {}).get("interface", ""), "servers": servers, "sources": sources}
print(json.dumps({"partitions": [partition]}))
