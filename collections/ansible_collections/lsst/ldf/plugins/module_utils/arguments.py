"""A module's arguments as its logic sees them, for the probes of a batch, which do without AnsibleModule."""

from __future__ import annotations

TYPES = {"bool": (bool,), "dict": (dict,), "float": (float, int), "int": (int,), "list": (list,), "path": (str,), "str": (str,)}


def complete(spec: dict, given: dict) -> dict | None:
    """``given`` with the defaults of the argument spec ``spec``; None when the module would refuse or convert any of it."""
    if not isinstance(given, dict) or set(given) - set(spec):
        return None
    found = {name: option.get("default") for name, option in spec.items()} | given
    for name, option in spec.items():
        if found[name] is None:
            if option.get("required") or option.get("default") is not None:
                return None
        elif not fits(option, option["type"], found[name]):
            return None
        elif "options" in option:
            found[name] = [complete(option["options"], entry) for entry in found[name]]
            if None in found[name]:
                return None
    return found


def fits(option: dict, kind: str, value: object) -> bool:
    """Whether the module would take ``value`` of the type ``kind`` as it is."""
    if type(value) not in TYPES[kind] or (kind != "list" and value not in option.get("choices", [value])):
        return False
    if kind == "path":
        return value.startswith("/") and not set(value) & {"~", "$"}
    return kind != "list" or all(fits(option, option["elements"], entry) for entry in value)
