#!/usr/bin/env python3
"""lab.py COMMAND: the four sites as containers on this machine, from production's inventory.

up [SITE ...]                   start these sites, or repair what is missing, dead or changed (none named: those that are up, else base)
down [SITE ...]                 remove these sites; none named: everything, and put the machine's settings back
status                          what runs, and how the links are
cut LINK, mend LINK             a link that carries nothing, and one that does again
kill HOST ..., start HOST ...   power off without warning, power on
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import fnmatch
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent / ".cache/venv"
if __name__ == "__main__" and Path(sys.prefix).resolve() != VENV.resolve() and (VENV / "bin/python").exists():
    os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])
if importlib.util.find_spec("netaddr") is None:
    sys.exit("lab: the virtual environment .cache/venv is missing or not complete. Run: make setup")
sys.path[:0] = [str(HERE), str(HERE.parent / "plugins/filter")]

from builder import IMAGE, Builder, pidfile  # noqa: E402
from state import (  # noqa: E402
    CONTROL,
    CUT,
    MACHINES,
    PACKAGES,
    SECRETS,
    SHARED,
    SNAPSHOT,
    SSH_CONFIG,
    STATE,
    TOP,
    Inventory,
    LabError,
    cut_links,
    prepare,
    read_inventory,
)

import containment  # noqa: E402
import engine  # noqa: E402
import plan as address_plan  # noqa: E402
import topology  # noqa: E402
from engine import podman  # noqa: E402

LOCK = Path("/run/lsst-lab/lab.lock")
DEFAULT_SITES = ("base",)
# More at once only make each other late: a start is half a second of one core.
AT_ONCE = 6


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
    except (LabError, engine.EngineError, containment.ContainmentError, ValueError, subprocess.SubprocessError) as error:
        print(f"lab: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("lab: interrupted; the same command goes on from here", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the lines went away; Python would complain once more when it closes them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up_parser = commands.add_parser("up", help="start or repair sites")
    up_parser.add_argument("sites", nargs="*", metavar="SITE")
    up_parser.add_argument("--one-per-kind", action="store_true", help="one host of each kind, but both name servers")
    up_parser.add_argument("--limit", type=names, default=[], metavar="HOST,...", help="only these hosts; * stands for the rest of a name")
    up_parser.set_defaults(command=up)
    down_parser = commands.add_parser("down", help="remove sites, or the lab")
    down_parser.add_argument("sites", nargs="*", metavar="SITE")
    down_parser.set_defaults(command=down)
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


def up(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    running = engine.containers()
    existing = sites_in(running, inventory)
    asked = arguments.sites or existing or list(DEFAULT_SITES)
    refuse_unknown("site", asked, inventory.plan["sites"])
    lab = topology.lab(inventory.plan, inventory.groups, {*asked, *existing}, cut_links())
    hosts = chosen_hosts(asked, arguments, inventory)
    gateways = [topology.gateway_name(site) for site in lab.sites]

    progress.say(f"lab of {', '.join(lab.sites)}: hosts: {len(hosts)}, inventory inventories/production")
    build_image()
    content = engine.image_content(IMAGE)
    prepare(inventory)
    SNAPSHOT.write_text(snapshot_name(engine.image_made(IMAGE), PACKAGES.stat().st_mtime))
    containment.contain(inventory.plan["prefix"], topology.isolated_subnets(inventory.plan))
    progress.say("the machine holds the plan's addresses back")
    engine.sweep()
    builder = Builder(lab, inventory, content, running)
    if strangers := builder.remove_strangers():
        progress.say(f"removed what the inventory does not have or another checkout made: {', '.join(strangers)}")
    progress.say(f"networks: {builder.make_networks()} made, {len(lab.networks)} in all")
    failed = progress.each("gateway", gateways, builder.bring_up)
    failed += progress.each("host", hosts, builder.bring_up)
    others = sorted(set(running) - {*hosts, *gateways})
    failed += progress.each("routes", others, builder.renew_network)
    if failed:
        raise LabError(f"not running: {', '.join(failed)}. Start again with: lab/lab.py up; look with: lab/podman logs NAME")
    progress.say(f"{len(hosts)} {'host answers' if len(hosts) == 1 else 'hosts answer'} over ssh")
    print(hint(hosts[0] if hosts else "HOST"))
    return 0


def sites_in(running: Iterable[str], inventory: Inventory) -> list[str]:
    """The sites that some container of the lab belongs to."""
    found = set(running)
    sites = inventory.plan["sites"]
    return [site for site in sites if found & {topology.gateway_name(site), *address_plan.hosts_of(site, inventory.plan)}]


def chosen_hosts(sites: list[str], arguments: argparse.Namespace, inventory: Inventory) -> list[str]:
    """The hosts that ``up`` was asked for."""
    chosen = []
    for site in sites:
        hosts = sorted(address_plan.hosts_of(site, inventory.plan))
        chosen += topology.kinds(hosts, inventory.groups, inventory.no_services) if arguments.one_per_kind else hosts
    if arguments.limit:
        matches = {pattern: fnmatch.filter(chosen, pattern) for pattern in arguments.limit}
        refuse_unknown("host", [pattern for pattern, hosts in matches.items() if not hosts], chosen)
        chosen = [host for host in chosen if any(host in hosts for hosts in matches.values())]
    return chosen


def refuse_unknown(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    allowed = list(known)
    for name in asked:
        if name not in allowed:
            raise LabError(f"there is no {what} {name!r}. Allowed: {', '.join(allowed)}. To add one, edit inventories/production.")


def build_image() -> None:
    """Make the hosts' image when what it is made from has changed."""
    if subprocess.run(["lab/image/build.sh"], check=False).returncode:
        raise LabError("lab/image/build.sh failed, see above. Without a network it can only use what is in .cache/debs.")


def snapshot_name(*changed: float) -> str:
    """The name of the packages' snapshot, after the last of some times in seconds: an older one would lack what was changed then."""
    return datetime.fromtimestamp(max(changed), UTC).strftime("%Y%m%dT%H%M%SZ")


def hint(host: str) -> str:
    return (
        f"look:     make shell HOST={host}    lab/lab.py status    ansible {host} -m ping\n"
        f"converge: ansible-playbook site.yml -l {host}\n"
        "prove:    make verify\n"
        "remove:   lab/lab.py down"
    )


def down(arguments: argparse.Namespace, progress: Progress) -> int:
    running = engine.containers()
    if arguments.sites:
        inventory = read_inventory()
        refuse_unknown("site", arguments.sites, inventory.plan["sites"])
        leaving = {name for site in arguments.sites for name in (topology.gateway_name(site), *address_plan.hosts_of(site, inventory.plan))}
        if staying := sites_in(set(running) - leaving, inventory):
            return take_away(leaving & set(running), staying, inventory, progress)
    # From here on without the inventory: a lab goes away also when that has been broken meanwhile.
    networks = engine.networks()
    engine.remove_containers(sorted(running))
    progress.say(f"{len(running)} containers removed")
    for network in networks.values():
        engine.remove_network(network)
    progress.say(f"{len(networks)} networks removed")
    engine.sweep()
    others = bool(engine.ps("--quiet").strip())
    moved = containment.moved()
    containment.release(keep_forwarding=others)
    for path in (MACHINES, CONTROL, SHARED):
        shutil.rmtree(path, ignore_errors=True)
    for path in (CUT, SSH_CONFIG):
        path.unlink(missing_ok=True)
    progress.say("the machine is as before" + (", but forwards: other containers run" if others else ""))
    for key, (before, now) in moved.items():
        print(f"WARNING: {key} of this machine was {before} before the lab and is {now}; something set it meanwhile", flush=True)
    return 0


def take_away(leaving: set[str], staying: list[str], inventory: Inventory, progress: Progress) -> int:
    """Remove some sites from the lab; the others forget the way to them."""
    engine.remove_containers(sorted(leaving))
    running = engine.containers()
    builder = Builder(topology.lab(inventory.plan, inventory.groups, staying, cut_links()), inventory, "", running)
    unused = [network for name, network in engine.networks().items() if name not in builder.lab.networks]
    for network in unused:
        engine.remove_network(network)
    for name in leaving:
        shutil.rmtree(MACHINES / name, ignore_errors=True)
        pidfile(name).unlink(missing_ok=True)
    progress.say(f"{len(leaving)} containers and {len(unused)} networks removed; {', '.join(staying)} stays")
    return 1 if progress.each("routes", sorted(running), builder.renew_network) else 0


def status(arguments: argparse.Namespace, progress: Progress) -> int:
    inventory = read_inventory()
    if SECRETS.exists():
        prepare(inventory)
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
                services = {name for name, members in inventory.groups.items() if host in members} - inventory.no_services
                address = address_plan.address(host, inventory.plan)
                print(f"  {host:26} {'runs' if host in alive else 'DEAD':5} {address:15} {' '.join(sorted(services))}")
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
    sites = sites_in(running, inventory)
    builder = Builder(topology.lab(inventory.plan, inventory.groups, sites, broken), inventory, "", running)
    gateways = [name for name in map(topology.gateway_name, sites) if name in running]
    failed = progress.each("link", gateways, builder.renew_network)
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
    sites = sites_in(running, inventory)
    prepare(inventory)
    builder = Builder(topology.lab(inventory.plan, inventory.groups, sites, cut_links()), inventory, "", running)

    def work(name: str) -> str:
        machine = builder.lab.machines[name]
        done = builder.run(machine)
        builder.verify(machine)
        return done or "runs"

    return 1 if progress.each("host", arguments.hosts, work) else 0


if __name__ == "__main__":
    sys.exit(main())
