"""What a batch needs on a host, content-addressed: modules, what they import, and the runner. Made once, sent once, kept on both sides."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ansible import constants
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core

COLLECTION = Path(__file__).parents[2]
# The host's half of the batch, by its place in the bundle.
RUNNER = ("arguments", "batch_probes", "batch_runner", "systemd")
HOME = "ansible_collections/lsst/ldf/plugins/module_utils"
OLDEST = "(3, 9)"  # Python on the host

# Both pieces get the directory of all bundles and the name of this one, and refuse a directory that others could have written.
BOOT = f"""import sys,os
if sys.version_info<{OLDEST}: sys.exit("LSST_LDF_BATCH_PYTHON %d.%d"%sys.version_info[:2])
h=os.path.expanduser(sys.argv[1]);p=os.path.join(h,sys.argv[2])
try:
 for d in (h,p):
  s=os.lstat(d)
  if s.st_uid!=os.geteuid() or s.st_mode&0o77 or s.st_mode&0o170000!=0o40000: raise OSError
 sys.path.insert(0,p)
 from {HOME.replace("/", ".")} import batch_runner as r
except (OSError,ImportError): print("LSST_LDF_BATCH_NEED")
else: r.main(p,sys.stdin.buffer.read())"""
INSTALL = """import sys,os,io,zipfile,tempfile,shutil,compileall
os.umask(0o77)
h=os.path.expanduser(sys.argv[1])
try:
 os.makedirs(h,0o700,True)
 if os.lstat(h).st_uid!=os.geteuid() or os.path.islink(h): sys.exit("%s belongs to somebody else: remove it"%h)
 os.chmod(h,0o700)
 t=tempfile.mkdtemp(dir=h)
 try:
  zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).extractall(t)
  compileall.compile_dir(t,quiet=2)
  p=os.path.join(h,sys.argv[2])
  shutil.rmtree(p,True)
  os.rename(t,p)
 except BaseException:
  shutil.rmtree(t,True)
  raise
 b=sorted((e for e in os.scandir(h) if e.is_dir()),key=lambda e:-e.stat().st_mtime)
 for e in b[64:]: shutil.rmtree(e.path,True)
except OSError as e: sys.exit("%s"%e)"""


@dataclass(frozen=True)
class Bundle:
    """``sha256`` of the archive names it, ``python_names``: module -> the name that Python imports, ``archive``: a zip file."""

    sha256: str
    python_names: dict[str, str]
    archive: bytes


def make(modules: Iterable[str], collections: list[str]) -> tuple[Bundle, set[str]]:
    """A bundle for ``modules``, and the files on the controller that it is made of."""
    names, files, origins = batch_core.collect(modules, collections)
    for name in RUNNER:
        source = COLLECTION / "plugins" / "module_utils" / f"{name}.py"
        files[f"{HOME}/{name}.py"] = source.read_bytes()
        origins.add(str(source))
    parts = HOME.split("/")
    for depth in range(1, len(parts) + 1):
        files.setdefault("/".join(parts[:depth]) + "/__init__.py", b"")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return Bundle(hashlib.sha256(packed.getvalue()).hexdigest(), names, packed.getvalue()), origins


def signature(path: str) -> list[int] | None:
    """What changes when a file does: its modification time in ns and its size; None for a missing one."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def cache_directory(name: str = "bundles") -> Path | None:
    """Where something is kept between runs; None when that place is not ours alone."""
    place = Path(constants.config.get_config_value("ANSIBLE_HOME")).expanduser() / "lsst_ldf_batch" / name
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    return place if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077 else None


def kept(place: Path, key: str) -> Bundle | None:
    """The bundle that an earlier run made for ``key``; None when there is none, it is damaged or one of its sources has changed since."""
    try:
        index = json.loads((place / f"{key}.json").read_text())
        if any(signature(path) != found for path, found in index["sources"].items()):
            return None
        archive = (place / f"{index['sha256']}.zip").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return Bundle(index["sha256"], index["python_names"], archive) if hashlib.sha256(archive).hexdigest() == index["sha256"] else None


def keep(place: Path, key: str, bundle: Bundle, origins: set[str]) -> None:
    """Write a bundle so that other processes see all of it or nothing."""
    index = {"sha256": bundle.sha256, "python_names": bundle.python_names, "sources": {path: signature(path) for path in sorted(origins)}}
    for name, data in ((f"{bundle.sha256}.zip", bundle.archive), (f"{key}.json", json.dumps(index).encode())):
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as stream:
            stream.write(data)
        Path(stream.name).replace(place / name)


@cache
def bundle(modules: frozenset[str], collections: tuple[str, ...]) -> Bundle:
    """The bundle for ``modules`` (names as tasks give them); LookupError for one that does not exist or is not written in Python."""
    place = cache_directory()
    key = hashlib.sha256(repr((batch_core.CORE, str(COLLECTION), RUNNER, sorted(modules), collections)).encode()).hexdigest()[:24]
    if place and (found := kept(place, key)):
        return found
    made, origins = make(modules, list(collections))
    if place:
        keep(place, key, made, origins)
    return made
