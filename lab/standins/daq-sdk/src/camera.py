#!/usr/bin/python3
"""Stand-in: this is not the DAQ's. A camera that exposes by itself and gives each image to one client of its partition.

camera DIRECTORY PARTITION PORT SECONDS [SOURCE...]

DIRECTORY keeps how many images there were and which nobody has taken, over any kill of the camera; while it holds a file `idle` none is
made. An image waits until a client says that it has it; one that a client took along when it went is the next one's. A client of another
API is refused.
"""

import ctypes
import json
import socketserver
import sys
import threading
import time
import zlib
from pathlib import Path

net = ctypes.CDLL(str(Path(__file__).resolve().parent.parent / "lib/libdaq_net.so"))
net.net_build.restype = ctypes.c_char_p
API, BUILD = net.net_api(), net.net_build().decode()


class Camera:
    def __init__(self, directory, partition, sources):
        self.directory, self.partition, self.sources = Path(directory), partition, sources
        self.changed = threading.Condition()
        self.images, self.waiting = 0, []
        if (kept := self.directory / f"{partition}.json").exists():
            self.images, self.waiting = json.loads(kept.read_text())
        self.lent, self.clients = [], {}

    def save(self):
        new = self.directory / f"{self.partition}.new"
        new.write_text(json.dumps([self.images, sorted(self.waiting + self.lent)]))
        new.replace(self.directory / f"{self.partition}.json")
        self.changed.notify_all()

    @property
    def idle(self):
        return (self.directory / "idle").exists()

    def expose(self, seconds):
        while True:
            time.sleep(seconds)
            if not self.idle:
                with self.changed:
                    self.images += 1
                    self.waiting.append(self.images)
                    self.save()

    def lend(self, gone):
        """The next image, when there is one and nobody is ``gone`` meanwhile."""
        with self.changed:
            while not self.waiting:
                if gone():
                    return None
                self.changed.wait(0.2)
            self.lent.append(number := self.waiting.pop(0))
            return number

    def settle(self, number, taken):
        with self.changed:
            self.lent.remove(number)
            if not taken:
                self.waiting.insert(0, number)
            self.save()

    def state(self):
        state = "idle" if self.idle else "running"
        with self.changed:
            waiting = len(self.waiting) + len(self.lent)
            lines = [f"partition {self.partition} {state} {API} {BUILD} {self.images} {waiting}"]
            lines += [f"source {source} {state} {self.images}" for source in self.sources]
            lines += [f"client {name} {build} {taken}" for name, build, taken in map(tuple, self.clients.values())]
        return "".join(f"{line}\n" for line in lines)


class Talk(socketserver.BaseRequestHandler):
    def send(self, content):
        self.request.sendall(len(content).to_bytes(4) + zlib.crc32(content).to_bytes(4) + content)

    def receive(self):
        head = self.request.recv(8, 256)  # MSG_WAITALL
        content = self.request.recv(int.from_bytes(head[:4]), 256) if len(head) == 8 else b""
        return content.decode() if content and zlib.crc32(content) == int.from_bytes(head[4:]) else ""

    def gone(self):
        try:
            return not self.request.recv(1, 66)  # MSG_DONTWAIT | MSG_PEEK
        except BlockingIOError:
            return False
        except OSError:
            return True

    def handle(self):
        camera, words = self.server.camera, self.receive().split()
        if len(words) != 5:
            return
        api, build, name, partition, what = words
        if int(api) != API:
            self.send(f"API {api} of {build}. Allowed: API {API} of {BUILD}".encode())
        elif partition != camera.partition:
            self.send(f"partition {partition}. Allowed: {camera.partition}".encode())
        elif what == "state":
            self.send(b"ok")
            self.send(camera.state().encode())
        else:
            self.send(b"ok")
            camera.clients[id(self)] = client = [name, build, 0]
            try:
                while self.receive() == "next" and (number := camera.lend(self.gone)):
                    taken = False
                    try:
                        self.send(f"{number} ".encode() + (b"%08d" % number) * 1024)
                        taken = self.receive() == f"have {number}"
                    finally:
                        camera.settle(number, taken)
                    client[2] += taken
            except OSError:
                pass
            finally:
                del camera.clients[id(self)]


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    directory, partition, port, seconds, *sources = sys.argv[1:]
    with Server(("", int(port)), Talk) as server:
        server.camera = Camera(directory, partition, sources)
        threading.Thread(target=server.camera.expose, args=[float(seconds)], daemon=True).start()
        server.serve_forever()
