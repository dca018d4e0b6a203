#!/usr/bin/env python3
"""lab.py COMMAND: the four sites as containers on this machine, from production's inventory.

up [SITE ...]        start these sites, or repair what is missing, dead or changed (none named: those that are up, else base)
down                 remove everything of the lab and put the machine's settings back
status               what runs, how links and hosts are
cut LINK, mend LINK  a link that carries nothing, and one that does again
kill HOST ..., start HOST ...   power off without warning, power on
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
VENV_PYTHON = TOP / ".cache/venv/bin/python"
if Path(sys.prefix).resolve() != VENV_PYTHON.parents[1].resolve() and VENV_PYTHON.exists() and __name__ == "__main__":
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
sys.path[:0] = [str(TOP / "lab"), str(TOP / "plugins/filter")]

import containment  # noqa: E402
import engine  # noqa: E402
import keys  # noqa: E402
import plan as address_plan  # noqa: E402
import topology  # noqa: E402
from engine import podman  # noqa: E402

STATE = TOP / ".cache/lab"
SECRETS = STATE / "secrets"
MACHINES = STATE / "machines"
CONTROL = STATE / "cp"
CUT = STATE / "cut"
LOCK = Path("/run/lsst-lab/lab.lock")
IMAGE = "localhost/lsst-lab-host:latest"
ENVIRONMENT = "lab"
DEFAULT_SITES = ("base",)
# More at once only make each other late: a start is half a second of one core.
AT_ONCE = 6
ATTEMPTS = 3
READY_SECONDS = 40.0
# Without them podman asks for more than a machine without CAP_SYS_RESOURCE may give.
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")


class LabError(Exception):
    """The lab cannot do what was asked; the message is meant for the operator."""


@dataclass(frozen=True)
class Inventory:
    """What the lab needs to know of production's inventory. ``no_services``: groups that say where or for which camera, not what."""

    plan: dict[str, Any]
    groups: dict[str, list[str]]
    no_services: frozenset[str]
    login: str


class Progress:
    """Lines that say what, how many of how many, and since when."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def each(self, what: str, names: list[str], work: Callable[[str], str]) -> list[str]:
        """Do ``work`` for every name, several at a time; the names that failed. ``work`` returns what it did, empty for nothing."""
        failed: list[str] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = {pool.submit(work, name): name for name in names}
            for count, job in enumerate(as_completed(jobs), 1):
                try:
                    done = job.result()
                except (engine.EngineError, LabError, OSError, subprocess.SubprocessError) as error:
                    failed.append(jobs[job])
                    done = f"FAILED: {error}"
                if done:
                    self.say(f"{what}: {jobs[job]} {done}, {count} of {len(names)}")
        return sorted(failed)


def main() -> int:
    arguments = parse()
    os.chdir(TOP)
    try:
        with locked():
            return arguments.command(arguments, Progress())
    except (LabError, engine.EngineError, containment.ContainmentError, ValueError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up_parser = commands.add_parser("up", help="start or repair sites")
    up_parser.add_argument("sites", nargs="*", metavar="SITE")
    up_parser.add_argument("--one-per-kind", action="store_true", help="one host of each kind, but both name servers")
    up_parser.add_argument("--limit", type=names, default=[], metavar="HOST,...", help="only these hosts")
    up_parser.set_defaults(command=up)
    commands.add_parser("down", help="remove the lab").set_defaults(command=down)
    status_parser = commands.add_parser("status", help="say what runs")
    status_parser.add_argument("--names", action="store_true", help="only the names of the running hosts, with commas")
    status_parser.set_defaults(command=status)
    for verb, command in (("cut", cut), ("mend", mend)):
        link_parser = commands.add_parser(verb, help=f"{verb} a link between two sites")
        link_parser.add_argument("link", metavar="LINK")
        link_parser.set_defaults(command=command)
    for verb, command in (("kill", kill), ("start", start)):
        host_parser = commands.add_parser(verb, help=f"{verb} hosts")
        host_parser.add_argument("hosts", nargs="+", metavar="HOST")
        host_parser.set_defaults(command=command)
    return parser.parse_args()


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One lab.py at a time on the machine; the lock goes with the process, however it ends."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("lab: another lab.py is at work; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_inventory() -> Inventory:
    """Groups, plan and login user from inventories/production. Imported here: Ansible takes half a second to load."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=["inventories/production"])
    hosts = manager.get_hosts()
    if not hosts:
        raise LabError("inventories/production has no hosts. Allowed: at least one. Look into its <site>.yml files.")
    variables = VariableManager(loader=loader, inventory=manager).get_vars(host=hosts[0], include_hostvars=False)
    groups = {name: [host.name for host in group.get_hosts()] for name, group in manager.groups.items()}
    no_services = {"all", "ungrouped", "camera", "place"}
    for name in ("camera", "place"):
        if name in manager.groups:
            no_services |= {group.name for group in manager.groups[name].get_descendants()}
    return Inventory(plain(variables["plan"]), groups, frozenset(no_services), str(variables["ansible_user"]))


def plain(value: Any) -> Any:
    """Without Ansible's tags, which the json module and string methods need not know."""
    return json.loads(json.dumps(value, default=str))


def up(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    running = engine.containers()
    existing = [site for site in inventory.plan["sites"] if topology.gateway_name(site) in running]
    asked = arguments.sites or existing or list(DEFAULT_SITES)
    refuse_unknown("site", asked, inventory.plan["sites"])
    lab = topology.lab(inventory.plan, inventory.groups, {*asked, *existing}, cut_links())
    hosts = chosen_hosts(asked, arguments, inventory)
    gateways = [topology.gateway_name(site) for site in lab.sites]

    progress.say(f"lab of {', '.join(lab.sites)}: {len(hosts)} hosts asked for, inventory inventories/production")
    subprocess.run(["lab/image/build.sh"], check=True)
    content = engine.image_content(IMAGE)
    make_secrets(inventory)
    containment.contain(inventory.plan["prefix"], topology.isolated_subnets(inventory.plan))
    progress.say("the machine holds the plan's addresses back")
    builder = Builder(lab, inventory, content, running)
    builder.remove_strangers(progress)
    builder.make_networks(progress)
    failed = progress.each("gateway", gateways, builder.bring_up)
    failed += progress.each("host", hosts, builder.bring_up)
    others = sorted(name for name, container in running.items() if container.alive and name not in {*hosts, *gateways})
    failed += progress.each("routes", others, builder.renew_network)
    if failed:
        raise LabError(f"not running: {', '.join(failed)}. Start again with: lab/lab.py up; look with: podman logs NAME")
    progress.say(f"{len(hosts)} hosts answer over ssh")
    print(hint(hosts[0] if hosts else "HOST"))
    return 0


def chosen_hosts(sites: list[str], arguments: argparse.Namespace, inventory: Inventory) -> list[str]:
    """The hosts that ``up`` was asked for."""
    chosen = []
    for site in sites:
        hosts = sorted(address_plan.hosts_of(site, inventory.plan))
        chosen += topology.kinds(hosts, inventory.groups, inventory.no_services) if arguments.one_per_kind else hosts
    if arguments.limit:
        refuse_unknown("host", arguments.limit, chosen)
        chosen = [host for host in chosen if host in arguments.limit]
    return chosen


def refuse_unknown(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    allowed = list(known)
    for name in asked:
        if name not in allowed:
            raise LabError(f"there is no {what} {name!r}. Allowed: {', '.join(allowed)}. To add one, edit inventories/production.")


def make_secrets(inventory: Inventory) -> None:
    keys.make(SECRETS, inventory.plan["sites"], inventory.login, inventory.plan["domain"])
    for directory in (MACHINES, CONTROL):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def cut_links() -> list[str]:
    return CUT.read_text().split() if CUT.exists() else []


class Builder:
    """Makes the lab's networks and containers be what ``lab`` says."""

    def __init__(self, lab: topology.Lab, inventory: Inventory, content: str, running: dict[str, engine.Container]) -> None:
        self.lab, self.inventory, self.content, self.running = lab, inventory, content, running
        self.trust = (SECRETS / "ssh-user-ca.pub").read_text() + (SECRETS / "ssh-host-ca.pub").read_text()
        self.upstream = ""

    def remove_strangers(self, progress: Progress) -> None:
        """Containers whose host is no longer in the inventory."""
        strangers = sorted(set(self.running) - set(self.lab.machines))
        if strangers:
            engine.remove_containers(strangers)
            progress.say(f"removed what the inventory does not have: {', '.join(strangers)}")
        for name in strangers:
            del self.running[name]

    def make_networks(self, progress: Progress) -> None:
        """Make the missing networks, and the changed ones again: their containers go with them."""
        present = engine.networks()
        made = 0
        for name, network in sorted(self.lab.networks.items()):
            run = digest(network_arguments(network))
            if name in present and present[name].run != run:
                attached = [container.name for container in self.running.values() if name in container.networks]
                engine.remove_containers(attached)
                for container in attached:
                    del self.running[container]
                engine.remove_network(present.pop(name))
            if name not in present:
                podman(
                    "network",
                    "create",
                    "--label",
                    f"{engine.LABEL}={TOP}",
                    "--label",
                    f"{engine.RUN_LABEL}={run}",
                    *network_arguments(network),
                )
                made += 1
        progress.say(f"networks: {made} made, {len(self.lab.networks)} in all")

    def bring_up(self, name: str) -> str:
        """Make the container run and answer; what was done, empty when it did already."""
        machine = self.lab.machines[name]
        done = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                done = self.make_run(machine, again=attempt > 1) or done
                self.verify(machine)
                return f"{done}, attempt {attempt}" if attempt > 1 else done
            except (engine.EngineError, LabError) as error:
                if attempt == ATTEMPTS:
                    raise
                print(f"lab: {name}: {error}; trying again", flush=True)
        raise AssertionError("unreachable")

    def make_run(self, machine: topology.Machine, again: bool) -> str:
        """Bring the container into the state running, by the smallest step. ``again``: the last one was not enough, take it anew."""
        container = self.running.get(machine.name)
        run = digest([*self.run_arguments(machine), self.install_file(machine, ""), self.trust, self.content])
        if again or container is None or container.run != run or not (MACHINES / machine.name / "net").exists():
            if container or again:
                engine.remove_containers([machine.name])
            self.write_files(machine)
            labels = [f"{engine.LABEL}={TOP}", f"{engine.RUN_LABEL}={run}"]
            podman("run", "--detach", *(word for label in labels for word in ("--label", label)), *self.run_arguments(machine))
            self.running[machine.name] = engine.Container(machine.name, run, True, ())
            return "made"
        if not container.alive:
            self.write_files(machine, fresh=False)
            podman("start", machine.name)
            return "started"
        return self.renew_network(machine.name)

    def renew_network(self, name: str) -> str:
        """Give a running container the routes that the lab has now."""
        machine = self.lab.machines[name]
        directory = MACHINES / name
        if not directory.exists() or (directory / "net").read_text() == machine.network_script:
            return ""
        (directory / "net.new").write_text(machine.network_script)
        podman("exec", name, "sh", "-c", "sh -e /etc/lab/net.new && mv /etc/lab/net.new /etc/lab/net")
        return "has its routes renewed"

    def run_arguments(self, machine: topology.Machine) -> list[str]:
        """What podman run is told, beside labels. Host name, hosts and resolv.conf belong to the host: podman would reset them at every start."""
        arguments = ["--name", machine.name, "--hostname", machine.name, "--systemd=always", "--privileged", "--pids-limit=-1"]
        arguments += [*LIMITS, "--no-hosts", "--dns=none"]
        arguments += ["--volume", f"{MACHINES / machine.name}:/etc/lab"]
        if machine.name in self.inventory.groups.get("depot", []):
            arguments += ["--volume", f"{STATE / 'apt-cache' / machine.site}:/var/cache/apt-cacher-ng"]
        for leg in machine.legs:
            options = [f"ip={leg.address}"] if leg.address else []
            arguments += ["--network", f"{leg.network}:{','.join([*options, f'interface_name={leg.nic}'])}"]
        # A gateway is nobody's to log in to.
        command = ["/usr/local/sbin/lab-init", "systemd.mask=ssh.service"] if machine.is_gateway else []
        return [*arguments, IMAGE, *command]

    def write_files(self, machine: topology.Machine, fresh: bool = True) -> None:
        """Fill the directory that the container sees as /etc/lab. ``fresh``: its host has not been installed yet."""
        directory = MACHINES / machine.name
        if fresh:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "net").write_text(machine.network_script)
        if machine.is_gateway:
            shutil.copy(TOP / "lab/network/delay.py", directory)
            (directory / "delay").write_text("".join(f"{line} {seconds}\n" for line, seconds in machine.delays))
        if machine.is_gateway or not fresh:
            return
        if machine.name in self.inventory.groups.get("depot", []):
            (STATE / "apt-cache" / machine.site).mkdir(parents=True, exist_ok=True)
        shutil.copy(SECRETS / "ssh-user-ca.pub", directory / "user_ca.pub")
        has_uplink = any(leg.network == topology.UPLINK for leg in machine.legs)
        (directory / "install").write_text(
            self.install_file(machine, upstream_addresses(topology.gateway_name(machine.site)) if has_uplink else "")
        )

    def install_file(self, machine: topology.Machine, extra_hosts: str) -> str:
        """What lab-install reads: a file of shell assignments."""
        if machine.is_gateway:
            return ""
        plan = self.inventory.plan
        zone = address_plan.zone_of(machine.site, plan)
        servers = [host for host in self.inventory.groups.get("nameserver", []) if address_plan.site_of(host, plan) == machine.site]
        values = {
            "NAME": machine.name,
            "FQDN": address_plan.fqdn(machine.name, plan),
            "ADDRESS": address_plan.address(machine.name, plan),
            "HOSTS": extra_hosts,
            "SEARCH": f"{zone} {plan['domain']}",
            "NAMESERVERS": " ".join(address_plan.address(server, plan) for server in sorted(servers)),
            "LOGIN": self.inventory.login,
            "ENVIRONMENT": ENVIRONMENT,
        }
        return "".join(f"{key}='{value}'\n" for key, value in values.items())

    def verify(self, machine: topology.Machine) -> None:
        """Wait until the container does what it is for: a host answers over ssh with its certificate, a gateway has its network."""
        deadline = time.monotonic() + READY_SECONDS
        if machine.is_gateway:
            wait_for(lambda: gateway_is_ready(machine), deadline, f"{machine.name} has not set up its network")
            return
        self.certify(machine, deadline)
        address = address_plan.address(machine.name, self.inventory.plan)
        wait_for(lambda: listens(address), deadline, f"{machine.name} does not listen on {address} port 22")
        error = ""
        while time.monotonic() < deadline:
            done = subprocess.run(
                [*ssh(machine.name, self.inventory), "systemctl is-system-running --wait"],
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=READY_SECONDS,
            )
            if done.stdout.strip() in ("running", "degraded"):
                return
            error = done.stderr.strip() or done.stdout.strip()
            time.sleep(0.3)
        raise LabError(f"{machine.name} does not answer over ssh: {error}")

    def certify(self, machine: topology.Machine, deadline: float) -> None:
        """Sign the key that the host made at its first start; nothing to do at later ones."""
        directory = MACHINES / machine.name
        request, certificate = directory / "host_key.pub", directory / "host_key-cert.pub"
        if certificate.exists():
            return
        wait_for(request.exists, deadline, f"{machine.name} has not made its host key", every=0.05)
        fqdn = address_plan.fqdn(machine.name, self.inventory.plan)
        addresses = [card["address"] for card in address_plan.nics(machine.name, self.inventory.plan)]
        keys.sign(SECRETS / "ssh-host-ca", request, fqdn, [fqdn, machine.name, *addresses], keys.HOST_LIFE, host=True)


def network_arguments(network: topology.Network) -> list[str]:
    """What podman network create is told. Internal: no way out, no address translation, no default route."""
    arguments = ["--disable-dns", "--opt", f"mtu={network.mtu}"]
    if network.way_out:
        return [*arguments[:1], network.name]
    arguments.append("--internal")
    if network.subnet is None:
        return [*arguments[1:], "--ipam-driver=none", network.name]
    arguments += ["--subnet", network.subnet]
    if network.machine:
        arguments += ["--gateway", network.machine]
    return [*arguments, network.name]


def digest(arguments: list[str]) -> str:
    return hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]


def upstream_addresses(gateway: str) -> str:
    """Lines of /etc/hosts for where the image's packages came from; ``gateway`` is a container of that image.

    A depot fetches from there before any name server of the lab runs, and these do not know the world; nobody else needs these names.
    """
    listing = "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true"
    sources = podman("exec", gateway, "sh", "-c", listing)
    hosts = sorted({word.split("/")[2] for word in sources.split() if word.startswith(("http://", "https://"))})
    lines = []
    for host in hosts:
        try:
            lines.append(f"{socket.gethostbyname(host)} {host}\n")
        except OSError as error:
            print(f"lab: {host} cannot be resolved here ({error}); the depots will not reach it", flush=True)
    return "".join(lines)


def wait_for(true: Callable[[], bool], deadline: float, complaint: str, every: float = 0.2) -> None:
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"{complaint} after {READY_SECONDS:g} s")
        time.sleep(every)


def gateway_is_ready(machine: topology.Machine) -> bool:
    units = ["lab-net.service", *(["lab-delay.service"] if machine.delays else [])]
    return podman("exec", machine.name, "systemctl", "is-active", *units, check=False).split() == ["active"] * len(units)


def listens(address: str, port: int = 22) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def ssh(host: str, inventory: Inventory) -> list[str]:
    """The command that logs in to a host, with nothing but the lab's key, certificate and known CA (as inventories/lab says for Ansible)."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": SECRETS / "id",
        "CertificateFile": SECRETS / "id-cert.pub",
        "UserKnownHostsFile": SECRETS / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": address_plan.fqdn(host, inventory.plan),
        "HostKeyAlgorithms": "ssh-ed25519-cert-v01@openssh.com",
        # A quarter of the processor time of the default one.
        "KexAlgorithms": "curve25519-sha256",
        "ControlPath": "none",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ["ssh", "-F", "none", *words, f"{inventory.login}@{address_plan.address(host, inventory.plan)}"]


def hint(host: str) -> str:
    return (
        f"look:     make shell HOST={host}    lab/lab.py status    ansible {host} -m ping\n"
        f"converge: ansible-playbook site.yml -l {host}\n"
        "prove:    make verify\n"
        "remove:   lab/lab.py down"
    )


def down(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    containers, networks = engine.containers(), engine.networks()
    engine.remove_containers(sorted(containers))
    progress.say(f"{len(containers)} containers removed")
    for network in networks.values():
        engine.remove_network(network)
    progress.say(f"{len(networks)} networks removed")
    others = bool(podman("ps", "--quiet").strip())
    containment.release(inventory.plan["prefix"], topology.isolated_subnets(inventory.plan), keep_forwarding=others)
    for path in (MACHINES, CONTROL):
        shutil.rmtree(path, ignore_errors=True)
    CUT.unlink(missing_ok=True)
    progress.say("the machine is as before" + (", but forwards: other containers run" if others else ""))
    return 0


def status(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    containers = engine.containers()
    gateways = {topology.gateway_name(site) for site in inventory.plan["sites"]}
    alive = sorted(name for name, container in containers.items() if container.alive and name not in gateways)
    if arguments.names:
        print(",".join(alive))
        return 0
    for site in inventory.plan["sites"]:
        gateway = containers.get(topology.gateway_name(site))
        hosts = address_plan.hosts_of(site, inventory.plan)
        up_count = len(set(hosts) & set(alive))
        state = "not up" if gateway is None else f"gateway {'runs' if gateway.alive else 'is dead'}, {up_count} of {len(hosts)} hosts run"
        print(f"{site}: {state}")
        for host in hosts:
            if host in containers:
                services = sorted(
                    name for name, members in inventory.groups.items() if host in members and name not in inventory.no_services
                )
                print(
                    f"  {host:26} {'runs' if host in alive else 'DEAD':5} {address_plan.address(host, inventory.plan):15} {' '.join(services)}"
                )
    broken = cut_links()
    for link in inventory.plan["links"]:
        state = "CUT" if link["name"] in broken else "carries"
        print(f"link {link['name']}: {state}, {link['rate_mbit']} Mbit/s, {link['rtt_ms']} ms")
    return 0


def cut(arguments: argparse.Namespace, progress: Progress) -> int:
    return switch(arguments.link, progress, cut_links() + [arguments.link])


def mend(arguments: argparse.Namespace, progress: Progress) -> int:
    return switch(arguments.link, progress, [name for name in cut_links() if name != arguments.link])


def switch(link: str, progress: Progress, broken: list[str]) -> int:
    """Make ``broken`` the links that carry nothing; what is under way on a link that is cut is lost."""
    inventory = read_inventory()
    refuse_unknown("link", [link], [known["name"] for known in inventory.plan["links"]])
    STATE.mkdir(parents=True, exist_ok=True)
    CUT.write_text("\n".join(sorted(set(broken))))
    running = engine.containers()
    sites = [site for site in inventory.plan["sites"] if topology.gateway_name(site) in running]
    builder = Builder(topology.lab(inventory.plan, inventory.groups, sites, broken), inventory, "", running)
    alive = [name for name in map(topology.gateway_name, sites) if running[name].alive]
    failed = progress.each("link", alive, builder.renew_network)
    progress.say(f"link {link} {'carries nothing' if link in broken else 'carries again'}")
    return 1 if failed else 0


def kill(arguments: argparse.Namespace, progress: Progress) -> int:
    containers = engine.containers()
    refuse_unknown("host in the lab", arguments.hosts, containers)

    def work(name: str) -> str:
        if not containers[name].alive:
            return "was off"
        podman("kill", "--signal", "KILL", name)
        return "killed"

    return 1 if progress.each("host", arguments.hosts, work) else 0


def start(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    running = engine.containers()
    refuse_unknown("host in the lab", arguments.hosts, running)
    sites = [site for site in inventory.plan["sites"] if topology.gateway_name(site) in running]
    make_secrets(inventory)
    builder = Builder(topology.lab(inventory.plan, inventory.groups, sites, cut_links()), inventory, "", running)

    def work(name: str) -> str:
        machine = builder.lab.machines[name]
        done = "ran"
        if not running[name].alive:
            builder.write_files(machine, fresh=False)
            podman("start", name)
            done = "started"
        builder.verify(machine)
        return done

    return 1 if progress.each("host", arguments.hosts, work) else 0


if __name__ == "__main__":
    sys.exit(main())
