"""HTCondor's tokens and the keys that sign them: what a token says, and whether another one is due.

A token is a JSON Web Token; anybody who has it can read what it says. A key is kept scrambled, which hides it from nobody.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

# simple_scramble() of HTCondor.
SCRAMBLE = bytes.fromhex("deadbeef")


@dataclass(frozen=True)
class Token:
    """What a token says: who (``identity``) may do what, by which key and domain; seconds since the epoch, ``expires`` None for never."""

    identity: str
    issuer: str
    authz: frozenset[str]
    key: str
    issued: int
    expires: int | None


@dataclass(frozen=True)
class Wanted:
    """What a token should say. ``lifetime``, ``renew_before``: seconds; None for no end. ``issuer``: None for any."""

    identity: str
    authz: frozenset[str]
    key: str
    lifetime: int | None
    renew_before: int
    issuer: str | None = None


def read(text: str) -> Token | None:
    """What the token in ``text`` says; None when it is none."""
    try:
        header, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in text.strip().split(".")[:2])
        scopes = [scope.partition(":/") for scope in payload.get("scope", "").split()]
        authz = frozenset(name for prefix, _, name in scopes if prefix == "condor")
        return Token(payload["sub"], payload["iss"], authz, header.get("kid", "POOL"), payload["iat"], payload.get("exp"))
    except (ValueError, KeyError, AttributeError, TypeError, binascii.Error):
        return None


def due(token: Token | None, wanted: Wanted, now: float) -> str:
    """Why another token is due; empty when this one is as wanted for longer than ``renew_before``."""
    if token is None:
        return "there is none"
    for name in ("identity", "authz", "key"):
        have, want = getattr(token, name), getattr(wanted, name)
        if have != want:
            told = [" ".join(sorted(each)) if isinstance(each, frozenset) else each for each in (have, want)]
            return f"its {name} is {told[0]}, not {told[1]}"
    if wanted.issuer is not None and token.issuer != wanted.issuer:
        return f"its issuer is {token.issuer}, not {wanted.issuer}"
    lifetime = token.expires - token.issued if token.expires is not None else None
    if lifetime != wanted.lifetime:
        return f"it was made for {told_days(lifetime)}, not {told_days(wanted.lifetime)}"
    if token.expires is not None and token.expires - now <= wanted.renew_before:
        return f"it ends in {max(0, int(token.expires - now))} s"
    return ""


def told_days(seconds: int | None) -> str:
    return "ever" if seconds is None else f"{seconds / 86400:g} days"


def scrambled(content: bytes) -> bytes:
    """A key as its file has it, and the other way round."""
    return bytes(one ^ other for one, other in zip(content, itertools.cycle(SCRAMBLE)))


def new_key() -> bytes:
    """A key of 64 bytes, none of which ends a string in C, scrambled or not."""
    return bytes(secrets.choice([each for each in range(1, 256) if each not in SCRAMBLE]) for _ in range(64))


def check_name(name: str) -> None:
    """CondorError for a name that is no key's: it becomes a path."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise CondorError(f"The key is called {name!r}.\nAllowed: letters, digits, _ and -.\nCorrect its name.")


def write(path: Path, content: bytes) -> None:
    """The file has this content, for its owner alone, from one moment to the next."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # HTCondor reads no name with a dot in front.
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def files(pattern: Path, keep: Collection[str]) -> list[Path]:
    """The files that fit a pattern of names, but those that are to be kept, by name."""
    return sorted(path for path in pattern.parent.glob(pattern.name) if path.name not in keep)


def claims(token: Token | None, now: float) -> dict[str, Any]:
    """What a token says, for a module's result."""
    if token is None:
        return {}
    rest = None if token.expires is None else int(token.expires - now)
    return {
        "identity": token.identity, "issuer": token.issuer, "authz": sorted(token.authz), "key": token.key,
        "issued": token.issued, "expires": token.expires, "expires_in": rest,
    }  # fmt: skip


def told(said: Mapping[str, Any]) -> str:
    """Claims as lines, for a diff."""
    return "".join(f"{name}: {said[name]}\n" for name in ("identity", "issuer", "authz", "key", "expires") if name in said)
