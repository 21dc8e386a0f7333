"""The address of a served model, as the Open Inference Protocol spells it. Standard library only, for the plan."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from mlctl.errors import UsageError

FORM = "http://HOST:PORT/v2/models/NAME, or .../NAME/versions/VERSION"
_PATH = re.compile(r"(?:/[\w.~%-]+)*/v2/models/([\w.~%-]+)(?:/versions/([\w.~%-]+))?/?")


@dataclass(frozen=True)
class ServedAddress:
    """Where a model is served: `url` is that of its metadata, without a slash at its end."""

    url: str
    name: str
    version: str | None
    is_loopback: bool
    """Whether it leads to this machine, and so past every proxy."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address `text`, http or https. Raises UsageError for another form and for one that holds a password."""
        try:
            parts = urlsplit(text)
            hostname, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _refused("this is no address") from None
        if "@" in parts.netloc:
            raise _refused("an address that holds a user's name or password cannot stand in a recipe")
        found = _PATH.fullmatch(parts.path)
        is_plain = text.isascii() and text.isprintable() and not (parts.query or parts.fragment)
        if parts.scheme not in ("http", "https") or not hostname or not found or not is_plain:
            raise _refused("this is not the address of a served model")
        return cls(text.rstrip("/"), found[1], found[2], _is_loopback(hostname))


def _is_loopback(hostname: str) -> bool:
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"


def _refused(what: str) -> UsageError:
    return UsageError(what, next=f"write it as {FORM}")
