"""Containers and networks of the lab, brought by the smallest steps into the state that the topology asks for."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from state import APT_CACHE, MACHINES, SECRETS, SHARED, SSH_CONFIG, TOP, Inventory, LabError

import engine
import keys
import plan as address_plan
import topology
from engine import podman

DELAY = TOP / "lab/network/delay.py"
IMAGE = "localhost/lsst-lab-host:latest"
ENVIRONMENT = "lab"
READY_SECONDS = 40.0
# The disks of a storage host, beside the one that it lives on: name and size. Sparse files, which take what is written to them.
DISKS = "disk1 8G\ndisk2 8G\ndisk3 8G\n"
# Without them podman asks for more than a machine without CAP_SYS_RESOURCE may give.
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")


class Builder:
    """Makes the lab's networks and containers be what ``lab`` says."""

    def __init__(self, lab: topology.Lab, inventory: Inventory, content: str, running: dict[str, engine.Container]) -> None:
        self.lab, self.inventory, self.content, self.running = lab, inventory, content, running

    def remove_strangers(self) -> list[str]:
        """Remove containers whose host is no longer in the inventory, or that another checkout made; their names."""
        foreign = {name for name, container in self.running.items() if container.checkout != str(TOP)}
        strangers = sorted(foreign | (set(self.running) - set(self.lab.machines)))
        self.remove(strangers)
        return strangers

    def remove(self, names: list[str]) -> None:
        engine.remove_containers(names)
        for name in names:
            self.running.pop(name, None)

    def make_networks(self) -> int:
        """Make the missing networks, and the changed ones again: their containers go with them. How many were made."""
        present = engine.networks()
        made = 0
        for name, network in sorted(self.lab.networks.items()):
            run = digest(network_arguments(network))
            if name in present and present[name].run != run:
                self.remove([container.name for container in self.running.values() if name in container.networks])
                engine.remove_network(present.pop(name))
            if name not in present:
                podman("network", "create", *labels(run), *network_arguments(network))
                made += 1
        return made

    @cached_property
    def bridges(self) -> dict[str, engine.Bridge]:
        """The networks as they are made."""
        return engine.networks()

    def bring_up(self, name: str) -> str:
        """Make the container run and answer; what was done, empty when it did already.

        By the smallest step first: what the host has on its disk is lost only when nothing less helps.
        """
        machine = self.lab.machines[name]
        steps = [self.run, self.restart, self.make] if self.is_usable(machine) else [self.make, self.make, self.make]
        for number, step in enumerate(steps, 1):
            try:
                done = step(machine)
                for leg in machine.legs:
                    engine.keep_link_address(self.bridges[leg.network])
                self.verify(machine)
                return f"{done}, attempt {number}" if number > 1 else done
            except (engine.EngineError, LabError) as error:
                if number == len(steps):
                    raise
                print(f"lab: {name}: {error}; trying again", flush=True)
        raise AssertionError("unreachable")

    def run_digest(self, machine: topology.Machine) -> str:
        """Changes when the container has to be made again."""
        if machine.is_gateway:
            made_of = [DELAY.read_text()]
        else:
            authorities = [(SECRETS / f"ssh-{kind}-ca.pub").read_text() for kind in ("user", "host")]
            made_of = [self.install_file(machine, ""), *authorities, *([DISKS] if self.has_disks(machine) else [])]
        return digest([*self.run_arguments(machine), *made_of, self.content])

    def is_usable(self, machine: topology.Machine) -> bool:
        """Whether the container is there, as it has to be, and could run."""
        container = self.running.get(machine.name)
        there = container is not None and not container.lost and (MACHINES / machine.name / "net").exists()
        return there and container.run == self.run_digest(machine)

    def make(self, machine: topology.Machine) -> str:
        """Make the container anew."""
        self.remove([machine.name])
        self.write_files(machine)
        run = self.run_digest(machine)
        podman("run", "--detach", *labels(run), *self.run_arguments(machine))
        self.running[machine.name] = engine.Container(machine.name, run, checkout=str(TOP))
        return "made"

    def run(self, machine: topology.Machine) -> str:
        """Start the container if it does not run; give it the lab's routes if it does."""
        if self.running[machine.name].alive:
            return self.renew_network(machine.name)
        self.write_files(machine, fresh=False)
        podman("start", machine.name)
        return "started"

    def restart(self, machine: topology.Machine) -> str:
        """Off and on."""
        podman("kill", "--signal", "KILL", machine.name, check=False)
        self.write_files(machine, fresh=False)
        podman("start", machine.name)
        return "restarted"

    def renew_network(self, name: str) -> str:
        """Give a container the routes that the lab has now, at once or at its next start."""
        machine = self.lab.machines[name]
        directory = MACHINES / name
        if not (directory / "net").exists() or (directory / "net").read_text() == machine.network_script:
            return ""
        if not self.running[name].alive:
            (directory / "net").write_text(machine.network_script)
            return "gets its routes when it starts"
        (directory / "net.new").write_text(machine.network_script)
        podman("exec", name, "sh", "-c", "sh -e /etc/lab/net.new && mv /etc/lab/net.new /etc/lab/net")
        return "has its routes renewed"

    def run_arguments(self, machine: topology.Machine) -> list[str]:
        """What podman run is told, beside labels. /etc/hosts and resolv.conf belong to the host: podman would reset them at every start."""
        arguments = ["--name", machine.name, "--hostname", machine.name, "--systemd=always", "--privileged", "--pids-limit=-1"]
        arguments += [*LIMITS, "--no-hosts", "--dns=none"]
        arguments += ["--volume", f"{MACHINES / machine.name}:/etc/lab", "--pidfile", str(pidfile(machine.name))]
        if machine.name in self.inventory.groups.get("depot", []):
            arguments += ["--volume", f"{APT_CACHE / machine.site}:/var/cache/apt-cacher-ng"]
        if machine.name in self.inventory.groups.get("object_store", []):
            # What stands in for the file system that the site's gateways share.
            arguments += ["--volume", f"{SHARED / machine.site}:/srv/object-store"]
        if self.has_scratch(machine):
            # What stands in for the file server's directory of runs and pilots: the lab's kernel mounts no NFS.
            arguments += ["--volume", f"{SHARED / machine.site}-scratch:/srv/scratch"]
        if machine.name in self.inventory.groups.get("daq_mgt", []):
            # An NFS server knows files by handles, which the file system that a container lives on does not give.
            arguments += ["--volume", "/opt/lsst"]
        if machine.name in self.inventory.groups.get("control", []):
            # A run from there reads the lab's secrets as a run from here does.
            arguments += ["--volume", f"{SECRETS}:/etc/lab/secrets:ro"]
        for leg in sorted(machine.legs, key=lambda leg: leg.nic):
            options = [f"interface_name={leg.nic}", f"mac={leg.mac}", *([f"ip={leg.address}"] if leg.address else [])]
            arguments += ["--network", f"{leg.network}:{','.join(options)}"]
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
            shutil.copy(DELAY, directory)
            (directory / "delay").write_text("".join(f"{line} {seconds}\n" for line, seconds in machine.delays))
        if machine.is_gateway or not fresh:
            return
        if machine.name in self.inventory.groups.get("depot", []):
            (APT_CACHE / machine.site).mkdir(parents=True, exist_ok=True)
        if self.has_disks(machine):
            (directory / "disks").write_text(DISKS)
        if machine.name in self.inventory.groups.get("object_store", []):
            (SHARED / machine.site).mkdir(parents=True, exist_ok=True)
        if self.has_scratch(machine):
            (SHARED / f"{machine.site}-scratch").mkdir(parents=True, exist_ok=True)
        shutil.copy(SECRETS / "ssh-user-ca.pub", directory / "user_ca.pub")
        extra_hosts = ""
        if any(leg.network == topology.UPLINK for leg in machine.legs):
            extra_hosts = upstream_addresses(topology.gateway_name(machine.site))
        (directory / "install").write_text(self.install_file(machine, extra_hosts))

    def has_disks(self, machine: topology.Machine) -> bool:
        return machine.name in self.inventory.groups.get("storage", [])

    def has_scratch(self, machine: topology.Machine) -> bool:
        return any(machine.name in self.inventory.groups.get(group, []) for group in ("bps", "slurm", "gridengine"))

    def install_file(self, machine: topology.Machine, extra_hosts: str) -> str:
        """What lab-install reads: a file of shell assignments."""
        plan = self.inventory.plan
        zone = address_plan.zone_of(machine.site, plan)
        servers = [host for host in self.inventory.groups.get("nameserver", []) if address_plan.site_of(host, plan) == machine.site]
        values = {
            "NAME": machine.name,
            "FQDN": address_plan.fqdn(machine.name, plan),
            "ADDRESS": address_plan.address(machine.name, plan),
            "MACHINE": address_plan.lab_machine(machine.name, plan),
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
            wait_for(machine, lambda: gateway_is_ready(machine), deadline, "has not set up its network")
            return
        self.certify(machine, deadline)
        address = address_plan.address(machine.name, self.inventory.plan)
        wait_for(machine, lambda: listens(address), deadline, f"does not listen on {address} port 22")
        error = ""
        while time.monotonic() < deadline:
            state, error = system_state(machine.name)
            if state in ("running", "degraded"):
                return
            time.sleep(0.3)
        raise LabError(f"{machine.name} does not answer over ssh: {error}")

    def certify(self, machine: topology.Machine, deadline: float) -> None:
        """Sign the key that the host made at its first start; nothing to do at later ones."""
        directory = MACHINES / machine.name
        request, certificate = directory / "host_key.pub", directory / "host_key-cert.pub"
        if certificate.exists():
            return
        wait_for(machine, request.exists, deadline, "has not made its host key", every=0.05)
        fqdn = address_plan.fqdn(machine.name, self.inventory.plan)
        addresses = [card["address"] for card in address_plan.nics(machine.name, self.inventory.plan)]
        keys.sign(SECRETS / "ssh-host-ca", request, fqdn, [fqdn, machine.name, *addresses], keys.HOST_LIFE, host=True)


def labels(run: str) -> list[str]:
    return ["--label", f"{engine.LABEL}={TOP}", "--label", f"{engine.RUN_LABEL}={run}"]


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


def wait_for(machine: topology.Machine, true: Callable[[], bool], deadline: float, complaint: str, every: float = 0.2) -> None:
    """Wait until ``true``; not for a container that has died meanwhile, as some do when many start at once."""
    while not true():
        if died(machine.name):
            raise LabError(f"{machine.name} died while it started")
        if time.monotonic() > deadline:
            raise LabError(f"{machine.name} {complaint} after {READY_SECONDS:g} s")
        time.sleep(every)


def pidfile(name: str) -> Path:
    """Where podman writes the number of the container's first process, at every start."""
    return MACHINES / f"{name}.pid"


def died(name: str) -> bool:
    """Whether the container's first process is gone; False when its number is not known."""
    try:
        return not engine.is_init(int(pidfile(name).read_text()))
    except (OSError, ValueError):
        return False


def system_state(host: str) -> tuple[str, str]:
    """What systemd of a host says over ssh of the whole of it, such as "running", and what went wrong."""
    command = ["ssh", "-F", str(SSH_CONFIG), host, "systemctl is-system-running --wait"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=READY_SECONDS)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {READY_SECONDS:g} s"
    return done.stdout.strip(), done.stderr.strip() or done.stdout.strip()


def gateway_is_ready(machine: topology.Machine) -> bool:
    units = ["lab-net.service", *(["lab-delay.service"] if machine.delays else [])]
    return podman("exec", machine.name, "systemctl", "is-active", *units, check=False).split() == ["active"] * len(units)


def listens(address: str, port: int = 22) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False
