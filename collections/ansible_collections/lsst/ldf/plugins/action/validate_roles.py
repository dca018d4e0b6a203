"""Judge the values that a host's roles would get, before anything changes anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.module_utils.role_specs import find_role, read_role

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # Only the line numbers in the messages are lost.
    Origin = None

INVENTORY = "inventories/production/group_vars"


@dataclass(frozen=True)
class Problem:
    """What is wrong, what would be right and the file to edit."""

    wrong: str
    allowed: str
    fix: str

    def __str__(self) -> str:
        return f"- {self.wrong}\n    allowed: {self.allowed}\n    edit: {self.fix}"


def owner(variable: str, roles: Iterable[str]) -> str | None:
    """The role that ``variable`` belongs to: the longest of ``roles`` that its name begins with (``sshd_ca_key``: sshd_ca before sshd)."""
    return max((role for role in roles if variable.startswith(f"{role}_")), key=len, default=None)


def describe(option: Mapping[str, Any]) -> str:
    """What an option of an argument spec may hold, in one line, with its description."""
    return ". ".join(filter(None, [_kind(option), " ".join(_paragraphs(option)).rstrip(".")]))


def _kind(option: Mapping[str, Any]) -> str:
    if option.get("choices"):
        return "one of " + ", ".join(map(str, option["choices"]))
    kind, inner = option.get("type", "str"), option.get("options") or {}
    keys = ", ".join(f"{name} ({_kind(sub)}{', required' if sub.get('required') else ''})" for name, sub in inner.items())
    return f"{kind}{' of ' + option['elements'] if 'elements' in option else ''}{' with ' + keys if keys else ''}"


def _paragraphs(option: Mapping[str, Any]) -> list[str]:
    text = option.get("description", [])
    return [text] if isinstance(text, str) else list(text)


def secrets(option: Mapping[str, Any], value: Any, hidden: bool = False) -> set[str]:
    """Every scalar in ``value`` that ``option``, or an option inside it, marks no_log, as text."""
    hidden = hidden or bool(option.get("no_log"))
    if isinstance(value, Mapping):
        inner = option.get("options") or {}
        return set().union(*(secrets(inner.get(key, {}), part, hidden) for key, part in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*(secrets(option, part, hidden) for part in value))
    return {str(value)} if hidden and value not in (None, "") else set()


def judge_value(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """What is wrong with ``value`` as ``name``, in the words of ansible-core, without secrets; empty when nothing is."""
    messages = ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
    return [str(remove_values(message, secrets(option, value))) for message in messages]


def judge_names(variables: Iterable[str], options: Mapping[str, Mapping[str, Any]], roles: Iterable[str]) -> dict[str, str | None]:
    """The variables that no role reads: name -> the option that was meant, or None when no name is near.

    ``options``: of the host's roles, by role; ``roles``: the names of all roles there are. A name with the prefix of one of the host's
    roles must be an option of it; any other name only must not be a slip of the pen away from one (``timsync_allow``).
    """
    found, everything = {}, [name for spec in options.values() for name in spec]
    for variable in variables:
        role = owner(variable, roles)
        if role in options and variable not in options[role]:
            found[variable] = next(iter(get_close_matches(variable, [*options[role], *everything], 1)), None)
        elif role is None and not variable.startswith("_") and (near := get_close_matches(variable, everything, 1, 0.9)):
            found[variable] = near[0]
    return found


def reason(complaint: str, secret: bool) -> str:
    """Why a template failed. Of a secret's template only what cannot hold the secret: a filter may quote the value that it was given."""
    if "undecryptable" in complaint:
        return "no vault key of this run opens it"
    return complaint.partition(": ")[0] if secret and not complaint.startswith("The lookup plugin") else complaint


def parts(complaint: str) -> tuple[str, str | None, str | None]:
    """Wrong, allowed and edit out of the complaint of one of our own filters (plan.PlanError); any other is all "wrong"."""
    own = re.fullmatch(r"The filter plugin \S+ failed: (.+)\. Allowed: (.+)\. Edit: (.+)", complaint, re.DOTALL)
    return own.groups() if own else (complaint, None, None)


def origin(*values: Any) -> str | None:
    """File and line that the first of ``values`` with a known origin was written in, relative to the working directory if it is inside."""
    for value in values:
        tag = Origin.get_tag(value) if Origin else None
        if tag and tag.path:
            path = Path(tag.path)
            path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{path}:{tag.line_num}" if tag.line_num else str(path)
    return None


def home(role: str, secret: bool, host: str, groups: Iterable[str]) -> str:
    """The file in which a value of ``role`` is looked for first: of the site if it is secret, else of the service or of all."""
    site = host.partition("-")[0]
    if secret:
        return f"{INVENTORY}/{site if site in groups else '<site>'}/{role}.yml (an inline !vault value)"
    return f"{INVENTORY}/{role if role in groups else 'all'}/{role}.yml"


class ActionModule(ActionBase):
    """Control side only; documented in modules/validate_roles.py."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Fail once, with everything that is wrong with this host's values; never changed."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, given = self.validate_argument_spec({"roles": {"type": "list", "elements": "str", "required": True}})
        try:
            specs = {role: read_role(find_role(role, self._loader.get_basedir()), self._loader) for role in given["roles"]}
        except LookupError as error:
            raise AnsibleError(str(error)) from error
        problems = [problem for role, (options, defaults) in specs.items() for problem in self._values(role, options, defaults, variables)]
        problems += self._names({role: options for role, (options, _) in specs.items()}, variables)
        if problems:
            head = f"{variables['inventory_hostname']}: {len(problems)} of its values in the inventory are wrong"
            return result | {"failed": True, "msg": "\n".join([head, *map(str, problems)])}
        return result | {"changed": False, "msg": f"{len(specs)} roles have what they need"}

    def _values(self, role: str, options: Mapping[str, Any], defaults: Mapping[str, Any], variables: Mapping[str, Any]) -> list[Problem]:
        seen = {**defaults, **variables}
        templar = self._templar.copy_with_new_env(available_variables=seen)
        found = []
        for name, option in options.items():
            secret = bool(option.get("no_log"))
            file = home(role, secret, variables["inventory_hostname"], variables["group_names"])
            if name not in seen:
                if option.get("required"):
                    found.append(Problem(f"{name} is missing", describe(option), file))
                continue
            raw = seen[name]
            try:
                value = templar.template(raw)
            except AnsibleError as error:
                wrong, allowed, edit = parts(reason(error.message, secret))
                found.append(
                    Problem(f"{name} cannot be computed: {wrong}", allowed or describe(option), edit or origin(error.obj, raw) or file)
                )
                continue
            wrong = [f"{name} is empty"] if value is None and defaults.get(name, "") is not None else judge_value(name, value, option)
            found += [Problem(text, describe(option), origin(raw) or file) for text in wrong]
        return found

    def _names(self, options: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any]) -> list[Problem]:
        roles = {path.name for top in constants.DEFAULT_ROLES_PATH for path in Path(top).glob("*/")}
        names = [name for name in variables if not name.startswith("ansible_")]
        found = []
        for name, near in judge_names(names, options, roles).items():
            role = owner(near or name, options)
            allowed = f"{near}, perhaps" if near else ", ".join(options[role])
            found.append(Problem(f"{name} is read by no role", allowed, origin(variables[name], name) or f"{INVENTORY}/*/{role}.yml"))
        return found
