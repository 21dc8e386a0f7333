"""Addresses that may be downloaded from, and the file names that they give."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NoReturn, Self
from urllib.parse import SplitResult, quote, unquote, urldefrag, urljoin, urlsplit, urlunsplit

from mlctl.errors import DataError, UsageError

# What a path or a query may hold as it stands (RFC 3986), `%` included: an address is written as browsers show it.
_KEPT = "!$%&'()*+,/:;=?@[]~"
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
# File systems take 255 bytes; the end of the name, which says what the file is, stays.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Address:
    """An address that was checked."""

    url: str
    """What is asked for: ASCII, without a fragment."""

    shown: str
    """What people are shown."""

    is_loopback: bool
    """Whether it leads to this machine."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address `text`: https anywhere, http on this machine only.

        Raises UsageError for anything else, and for one that holds a password, which is not repeated.
        """
        parts, hostname = _parts(text)
        if "@" in parts.netloc:
            _refuse("", f"the address of {hostname} holds a user's name or password", _PASSWORD)
        is_loopback = _is_loopback(hostname)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
            _refuse(
                text, f"{parts.scheme or 'no scheme'}:// cannot be downloaded from", "give an address with https://"
            )
        clean = parts._replace(netloc=_ascii_host(text, parts, hostname), path=quote(parts.path, safe=_KEPT))
        url = urlunsplit(clean._replace(query=quote(parts.query, safe=_KEPT), fragment=""))
        return cls(url, text, is_loopback)

    @property
    def file_name(self) -> str:
        """The last part of the path as a plain file name, `download` where there is none."""
        name = unquote(urlsplit(self.url).path.rsplit("/", 1)[-1], errors="replace")
        name = "".join(letter for letter in name if letter.isprintable() and letter not in "/\\").strip()
        return name.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".") or "download"

    def redirected(self, current: str, location: str) -> str:
        """Where an answer sends the download that stands at `current`.

        Raises DataError for another scheme, another machine than this one from http, and addresses that hold passwords.
        """
        target = urldefrag(urljoin(current, location)).url
        try:
            found = type(self).parse(target)
        except UsageError as error:
            self._refuse_redirect(error.what)
        if urlsplit(found.url).scheme != urlsplit(self.url).scheme:
            self._refuse_redirect(f"it leads from {urlsplit(self.url).scheme} to {urlsplit(found.url).scheme}")
        return found.url

    def _refuse_redirect(self, why: str) -> NoReturn:
        # The target may be signed, so it is not shown.
        raise DataError(
            f"the server sends the download to another address that is not followed: {why}",
            where=self.shown,
            next="name the file's own address",
        )


_PASSWORD = "keep passwords out of recipes: download the file yourself and name its path"


def _parts(text: str) -> tuple[SplitResult, str]:
    if not text.isprintable() or re.search(r"\s", text):
        _refuse(repr(text), "the address holds blanks or control characters", "write blanks as %20")
    try:
        parts = urlsplit(text)
        hostname = parts.hostname or ""
        _ = parts.port
    except ValueError:
        _refuse("" if "@" in text else text, "this is no address", "give one that begins with https://")
    if not hostname:
        _refuse("" if "@" in text else text, "the address names no host", "give one that begins with https://")
    return parts, hostname


def _ascii_host(text: str, parts: SplitResult, hostname: str) -> str:
    try:
        host = hostname if hostname.isascii() else hostname.encode("idna").decode()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host):
        _refuse(text, f"{hostname!r} is no host", "mend the address")
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def _is_loopback(hostname: str) -> bool:
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"


def _refuse(text: str, what: str, next_step: str) -> NoReturn:
    raise UsageError(what, where=text or None, next=next_step)
