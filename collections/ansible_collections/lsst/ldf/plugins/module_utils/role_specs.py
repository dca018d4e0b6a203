"""Argument specs and defaults of roles, read on the control side."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.parsing.dataloader import DataLoader


def find_role(name: str, basedir: str) -> Path:
    """Directory of role ``name`` in the configured roles path, or in ``roles`` beside ``basedir`` and its parents.

    Raises LookupError, in three parts, when there is none.
    """
    candidates = [Path(path) / name for path in constants.DEFAULT_ROLES_PATH]
    candidates += [parent / "roles" / name for parent in (Path(basedir), *Path(basedir).parents)]
    for path in candidates:
        if path.is_dir():
            return path
    looked = ", ".join(map(str, constants.DEFAULT_ROLES_PATH))
    raise LookupError(f"role {name!r} is not there; looked in {looked}. Correct the name, or roles_path in ansible.cfg.")


def read_role(path: Path, loader: DataLoader) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The options in the role's argument specs (entry point main) and its defaults, both empty where there is no file.

    The defaults are still to be templated. Read once by a process; nobody may change them.
    """
    specs = _read(path / "meta" / "argument_specs.yml", loader).get("argument_specs", {})
    return specs.get("main", {}).get("options", {}), _read(path / "defaults" / "main.yml", loader)


@cache
def _read(path: Path, loader: DataLoader) -> dict[str, Any]:
    return loader.load_from_file(str(path), trusted_as_template=True) or {} if path.exists() else {}
