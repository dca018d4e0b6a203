"""The resources for pyinfra, each by the operation that means the same."""

from pathlib import Path

import yaml
from pyinfra.operations import apt, files, server, systemd

HERE = Path(__file__).parent

for task in yaml.safe_load((HERE / "tasks" / "resources.yml").read_text()):
    kind, asked = next((key.rpartition(".")[2], value) for key, value in task.items() if key != "name")
    rights = {"user": asked.get("owner"), "group": asked.get("group"), "mode": asked.get("mode")}
    match kind:
        case "group":
            server.group(asked["name"], gid=asked["gid"])
        case "user":
            server.user(asked["name"], uid=asked["uid"], group=asked["group"], shell=asked["shell"], home=asked["home"], ensure_home=False)
        case "file":
            files.directory(asked["path"], **rights)
        case "apt":
            apt.packages([asked["name"]])
        case "template":
            files.template(str(HERE / "templates" / asked["src"]), asked["dest"], **rights, what="bench")
        case "copy":
            files.put(str(HERE / "files" / asked["src"]), asked["dest"], **rights)
        case "systemd_service":
            systemd.service(asked["name"], running=True, enabled=True)
        case "lineinfile":
            files.line(asked["path"], asked["line"])
        case "sysctl":
            server.sysctl(asked["name"], asked["value"], persist=True, persist_file=asked["sysctl_file"])
