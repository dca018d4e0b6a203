"""Tables of the READMEs, from what they describe: the hosts of the inventory, the variables of the roles.

A table stands between two comments, <!-- NAME --> and <!-- /NAME -->. Without --write: names the files whose tables are out of date and
exits with 1. With --write: writes them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).parents[1]
sys.path.append(str(TOP / "plugins" / "filter"))

from audit import INVENTORY, TREES, load  # noqa: E402

import plan as address_plan  # noqa: E402


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown; a bar inside of a cell is escaped."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"{'|---' * len(head)}|", *lines[1:]])


def variables(role: Path) -> str:
    """The options of a role: name, type, default, meaning, in the order of its argument specs."""
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"].get("options", {})
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    rows = []
    for name, option in options.items():
        rows.append([f"`{name}`", kind(option), default(name, option, defaults), meaning(option)])
    return table(["variable", "type", "default", "meaning"], rows)


def kind(option: dict[str, Any]) -> str:
    """The type of an option: str, list of dict, or the choices it has."""
    if "choices" in option:
        return ", ".join(f"`{choice}`" for choice in option["choices"])
    return f"list of {option.get('elements', 'str')}" if option.get("type") == "list" else option.get("type", "str")


def default(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str:
    """The default as one writes it in YAML; ``required`` or ``none`` where there is no value."""
    words = ["required"] if option.get("required") else []
    if not words and name not in defaults:
        words.append("none")
    elif not words:
        value = defaults[name]
        words.append(f"`{value if isinstance(value, str) and value else json.dumps(value)}`")
    return ", ".join([*words, *(["secret"] if option.get("no_log") else [])])


def meaning(option: dict[str, Any]) -> str:
    """The description in one line; the keys of a dict after it."""
    text = option["description"]
    text = " ".join((text if isinstance(text, str) else " ".join(text)).split())
    keys = ", ".join(f"`{key}`" for key in option.get("options", {}))
    return f"{text} Keys: {keys}." if keys else text


def hosts() -> str:
    """For each site of the inventory a table of its hosts: address, what it does, which camera or part of the site it belongs to."""
    groups, parts = read_groups()
    plan = yaml.safe_load((TOP / address_plan.PLAN_FILE).read_text())["plan"]
    sections = []
    for site in plan["sites"]:
        rows = []
        for host in address_plan.hosts_of(site, plan):
            mine = [name for name, members in groups.items() if host in members and name not in plan["sites"]]
            services = ", ".join(f"`{name}`" for name in mine if name not in parts)
            rows.append([host, address_plan.address(host, plan), services, ", ".join(name for name in mine if name in parts)])
        sections.append(f"**{site}**, {len(rows)} hosts\n\n" + table(["host", "address", "services", "camera, part"], rows))
    return "\n\n".join(sections)


def read_groups() -> tuple[dict[str, list[str]], set[str]]:
    """Group -> hosts in the order of groups.yml, and the groups that say where or for which camera."""
    declared = load(TOP / INVENTORY / "groups.yml")
    parts = {name for tree in TREES for name in (tree, *nested(declared[tree]))}
    groups: dict[str, list[str]] = {name: [] for name in [*declared, *sorted(parts)]}
    for file in sorted((TOP / INVENTORY).glob("*.yml")):
        for name, body in load(file).items():
            groups[name] += (body or {}).get("hosts") or {}
    return groups, parts


def nested(body: dict[str, Any] | None) -> list[str]:
    """The names of all groups below a group."""
    children = (body or {}).get("children") or {}
    return [name for child, its in children.items() for name in (child, *nested(its))]


def filled(text: str, name: str, content: str) -> str | None:
    """``text`` with ``content`` between the comments of ``name``; None when they are not there."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text) if pattern.search(text) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables instead of comparing them")
    write = parser.parse_args().write
    tables = {TOP / "README.md": ("hosts", hosts())}
    tables |= {role / "README.md": ("variables", variables(role)) for role in sorted((TOP / "roles").iterdir())}
    wrong = 0
    for file, (name, content) in tables.items():
        old = file.read_text() if file.exists() else ""
        new = filled(old, name, content)
        if new is None:
            print(
                f"{file.relative_to(TOP)} has no place for its table. Allowed: <!-- {name} --> and <!-- /{name} --> on lines of their own."
            )
        elif new != old and write:
            file.write_text(new)
            print(f"{file.relative_to(TOP)}: written")
        elif new != old:
            print(f"{file.relative_to(TOP)}: its table is out of date; make readme writes it")
        wrong += new is None or (new != old and not write)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
