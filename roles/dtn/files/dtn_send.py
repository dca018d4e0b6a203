#!/usr/bin/python3
"""Send files to another data transfer node: dtn-send FILE... PEER.

A file arrives under a temporary name (.NAME.part) in this node's own directory at PEER and gets its name when all of it is there and its
checksum is the local one. A transfer that broke off goes on from where it stood. ``--queue`` sends what lies in /var/spool/dtn/PEER/ and
removes each file after that. Configured in /etc/lsst/dtn/dtn.conf, which Ansible writes (role dtn).
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

CONFIG = Path("/etc/lsst/dtn/dtn.conf")
SPOOL = Path("/var/spool/dtn")
AUTHORITIES = "/run/dtn/ca"
CERTIFICATE, KEY = "/etc/lsst/tls/host.crt", "/etc/lsst/tls/host.key"
INVENTORY = "inventories/production/group_vars/dtn/dtn.yml"
MIB = 1 << 20
# Hidden names are files that somebody is still writing.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,200}")
# xrootd's numbers: a file that does not exist, a fault of its own, and the question for a checksum.
NOT_FOUND, FAULT, CHECKSUM = 3011, 3012, 3
# How long a queue that is empty waits before it looks again, in seconds.
IDLE = 2.0
# For xrootd's client library, which reads it when it is loaded.
ENVIRONMENT = {
    "XrdSecPROTOCOL": "gsi",
    "XrdSecGSICADIR": AUTHORITIES,
    "XrdSecGSIUSERCERT": CERTIFICATE,
    "XrdSecGSIUSERKEY": KEY,
    # The host's certificate itself, no short-lived proxy of it.
    "XrdSecGSICREATEPROXY": "0",
    # The name in the certificate is to be the one that was called, not one that a name server makes of its address.
    "XrdSecGSITRUSTDNS": "0",
    "X509_CERT_DIR": AUTHORITIES,
    # Patience in seconds: with a node that does not answer, and with one that falls silent. Neither is remembered.
    "XRD_CONNECTIONWINDOW": "20",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_STREAMTIMEOUT": "60",
    "XRD_STREAMERRORWINDOW": "0",
}


class Failure(Exception):
    """A file did not arrive; the message is for the operator. ``number``: the far end's own, if it is its answer."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


class Refusal(Failure):
    """It will not arrive either when it is tried again."""


@dataclass(frozen=True)
class Peer:
    """The far end. ``directory``: where this node's files go there; ``window``: MiB under way at most; ``files``: xrootd's FileSystem."""

    name: str
    url: str
    directory: str
    window: int
    files: Any

    def ask(self, verb: str, *words: Any) -> Any:
        """What the far end answers to a method of FileSystem."""
        status, answer = getattr(self.files, verb)(*words)
        if not status.ok:
            raise Failure(status.message.strip(), status.errno)
        return answer

    def size(self, path: str) -> int | None:
        """Bytes of a file there; None when there is none."""
        try:
            return self.ask("stat", path).size
        except Failure as failure:
            if failure.number == NOT_FOUND:
                return None
            raise

    def checksum(self, path: str) -> str:
        """The MD5 of a file there, computed there. xrootd 5.8 fails now and then when it computes several at once: it is asked again."""
        tries = 5
        while True:
            try:
                return self.ask("query", CHECKSUM, f"{path}?cks.type=md5").rstrip(b"\0").decode().split()[-1]
            except Failure as failure:
                tries -= 1
                if failure.number != FAULT or tries == 0:
                    raise
                time.sleep(1)

    def bring(self, source: Path, size: int, part: str) -> None:
        """Copy ``source`` to ``part``, or go on with what is there of it.

        Chunks arrive in any order, so a broken transfer may have left holes in the last ``window`` MiB: these are sent again.
        """
        there = self.size(part)
        kept = max(0, (there or 0) - self.window * MIB)
        resume = 0 < kept <= size
        if resume:
            self.ask("truncate", part, kept)
        self.copy(source, part, resume)

    def copy(self, source: Path, target: str, resume: bool) -> None:
        """Have xrootd's client send the file, or what is missing at its end. Its command refuses to go on with a file that is there."""
        from XRootD import client

        process = client.CopyProcess()
        process.add_job(str(source), f"{self.url}/{target}", force=not resume, cont=resume, chunksize=MIB, parallelchunks=self.window)
        for status in (process.prepare(), process.run()[0]):
            if not status.ok:
                raise Failure(status.message.strip(), status.errno)


@contextmanager
def locked(path: Path) -> Iterator[os.stat_result]:
    """The file's state, while nobody else sends it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise Refusal(f"cannot be read: {error.strerror}. Allowed: a file that {whoami()} may read") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(descriptor)
    except BlockingIOError:
        raise Refusal("is being sent by another dtn-send") from None
    finally:
        os.close(descriptor)


def confirm(path: Path, before: os.stat_result) -> None:
    """Failure when the file is not the one that it was."""
    after = path.stat()
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
        raise Refusal("changed while it was sent. Allowed: files that are complete; rename them into the queue")


def whoami() -> str:
    """The name or number of the user that this runs as."""
    return "root" if os.geteuid() == 0 else os.environ.get("USER") or str(os.geteuid())


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def send(path: Path, peer: Peer, remove: bool = False) -> str:
    """Send one file, whatever is there of it already, and perhaps remove it here; a line that says how it went."""
    if not NAME.fullmatch(path.name):
        raise Refusal(f"has the name {path.name!r}. Allowed: letters, digits and ._+=@-, the first one a letter or digit. Rename it")
    began = time.monotonic()
    with locked(path) as state, ThreadPoolExecutor(1) as aside:
        # Its checksum is computed while it travels.
        wanted = aside.submit(md5, path)
        final, part = f"{peer.directory}/{path.name}", f"{peer.directory}/.{path.name}.part"
        if is_new := peer.size(final) is None:
            deliver(path, state.st_size, part, peer, wanted)
            confirm(path, state)
            peer.ask("mv", part, final)
        elif peer.checksum(final) != wanted.result():
            raise Refusal(f"{peer.name} has another file of that name. Allowed: a new name for new content. Rename one of them")
        if remove:
            confirm(path, state)
            path.unlink()
    seconds = time.monotonic() - began
    rate = f"{state.st_size} bytes in {seconds:.1f} s, {state.st_size / seconds / 1e6:.1f} MB/s, md5 {wanted.result()}"
    return f"{path}: {'sent to' if is_new else 'was there already at'} {peer.name}, {rate}"


def deliver(path: Path, size: int, part: str, peer: Peer, wanted: Future[str]) -> None:
    """Have ``part`` at the peer equal to ``path``; a second time from the beginning when what was there of it was not."""
    for _ in range(2):
        peer.bring(path, size, part)
        if peer.checksum(part) == wanted.result():
            return
        peer.ask("rm", part)
    raise Failure(f"arrived at {peer.name} with another checksum than {wanted.result()}, twice")


def patiently(path: Path, peer: Peer, tries: int) -> str:
    """``send``, tried again when it breaks off, after 2, 4, 8 ... seconds."""
    for attempt in range(1, tries):
        try:
            return send(path, peer)
        except Refusal:
            raise
        except Failure as failure:
            print(f"{path}: {failure}; trying again", file=sys.stderr, flush=True)
            time.sleep(2**attempt)
    return send(path, peer)


def waiting(directory: Path) -> list[Path]:
    """The files in a queue, the oldest first."""
    found = [Path(entry) for entry in os.scandir(directory) if not entry.name.startswith(".") and entry.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


class Senders:
    """Several files at once to one peer, each over a connection of its own: xrootd's client sends all it has over one otherwise."""

    def __init__(self, peers: list[Peer]) -> None:
        self.name, self.pool, self.free = peers[0].name, ThreadPoolExecutor(len(peers)), SimpleQueue()
        for peer in peers:
            self.free.put(peer)

    def each(self, work: Callable[[Path, Peer], bool], paths: Iterable[Path]) -> bool:
        """Do ``work`` with every file; whether it went well with all of them."""

        def with_peer(path: Path) -> bool:
            peer = self.free.get()
            try:
                return work(path, peer)
            finally:
                self.free.put(peer)

        return all(list(self.pool.map(with_peer, paths)))


def serve(senders: Senders, retry: int) -> None:
    """Send what is or comes into the peer's queue, for ever."""

    def take(path: Path, peer: Peer) -> bool:
        try:
            print(send(path, peer, remove=True), flush=True)
        except (Failure, OSError) as failure:
            # As a warning in the journal.
            print(f"<4>{path}: {failure}; it stays in the queue, next try in {retry} s", flush=True)
            return False
        return True

    while True:
        time.sleep(IDLE if senders.each(take, waiting(SPOOL / senders.name)) else retry)


def queue(names: Iterable[str], config: configparser.ConfigParser) -> None:
    """Serve every peer's queue, for ever; a peer that is out of reach keeps no other one waiting."""
    # A fault in one thread ends the service, so that systemd starts it again and says so.
    threading.excepthook = lambda fault: (sys.excepthook(fault.exc_type, fault.exc_value, fault.exc_traceback), os._exit(1))
    for name in names:
        threading.Thread(target=serve, args=(senders_to(name, config), config["dtn"].getint("retry"))).start()
    threading.Event().wait()


def senders_to(name: str, config: configparser.ConfigParser) -> Senders:
    """Connections to a peer, as many as files are sent at once."""
    os.environ.update(ENVIRONMENT)
    from XRootD import client

    own, address = config["dtn"], config["peers"][name]
    # The client opens one connection for each name of a user; who that is says the certificate.
    urls = [f"roots://{number}@{address}:{own['port']}/" for number in range(own.getint("parallel"))]
    return Senders([Peer(name, url, f"/incoming/{own['name']}", own.getint("window"), client.FileSystem(url)) for url in urls])


def complaint(config: configparser.ConfigParser, peer: str | None) -> str | None:
    """What is wrong before anything is sent: with the configuration, the certificate or the peer's name."""
    if not config.has_section("peers"):
        return f"{CONFIG} cannot be read. Allowed: root or the user dtn, after the role dtn has run. Run: site.yml --tags dtn"
    for file in (CERTIFICATE, KEY):
        if not os.access(file, os.R_OK):
            who = "root or a member of ssl-cert, once there is a certificate"
            return f"{file} cannot be read. Allowed: {who}. Run: site.yml --tags certificate"
    if peer is not None and peer not in config["peers"]:
        return f"there is no peer {peer!r}. Allowed: {', '.join(config['peers'])}. Edit: dtn_peers in {INVENTORY}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dtn-send", description=__doc__.splitlines()[0], usage="dtn-send [--tries N] FILE... PEER | dtn-send --queue"
    )
    parser.add_argument("words", nargs="*", metavar="FILE... PEER")
    parser.add_argument("--tries", type=int, default=5, help="how often to begin what breaks off (%(default)s)")
    parser.add_argument("--queue", action="store_true", help=f"send what lies in {SPOOL}/PEER/, for ever")
    arguments = parser.parse_args()
    *files, peer = arguments.words or [None]
    if arguments.queue == bool(files) or arguments.queue == bool(peer):
        parser.error("one or more files and then a peer, or --queue")
    config = configparser.ConfigParser(interpolation=None)
    config.read(CONFIG)
    if wrong := complaint(config, peer):
        print(f"dtn-send: {wrong}", file=sys.stderr)
        return 2
    if arguments.queue:
        queue(config["peers"], config)

    def take(path: Path, peer: Peer) -> bool:
        try:
            print(patiently(path, peer, arguments.tries), flush=True)
        except Failure as failure:
            print(f"{path}: {failure}", file=sys.stderr)
            return False
        return True

    return 0 if senders_to(peer, config).each(take, map(Path, files)) else 1


if __name__ == "__main__":
    sys.exit(main())
