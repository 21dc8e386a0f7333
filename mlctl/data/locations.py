"""What a source string says: `LOCATION[!MEMBERS][#sha256=HEX]`. Standard library only, for the plan asks too."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, NoReturn, Self, TypeAlias

from mlctl.errors import UsageError

if TYPE_CHECKING:
    from mlctl.data.hub_reference import HubFile
    from mlctl.data.remote_address import Address

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")

Scheme: TypeAlias = Literal["file", "https", "hf"]

_PIN = re.compile(r"(?P<rest>.*)#sha256=(?P<sha256>.*)", re.DOTALL | re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES: dict[str, Scheme] = {"https": "https", "http": "https", "hf": "hf"}
# In a glob, [!a] is a class of characters; and a file may have a ! in its name, unless it is an archive's.
_LOCAL_MEMBERS = re.compile(
    rf"(?P<place>.*?(?:{'|'.join(map(re.escape, ARCHIVE_SUFFIXES))}))!(?P<members>.+)", re.DOTALL | re.IGNORECASE
)
_REMOTE_MEMBERS = re.compile(r"(?P<place>[^!]*)!(?P<members>.+)", re.DOTALL)
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Location:
    """Where a source lies: a path or a glob beside the recipe, a web address, or a file of the hub."""

    scheme: Scheme
    place: str
    """The path, glob, address or name on the hub alone."""
    members: str | None = None
    """A glob over an archive's files; None for a file, or for all of an archive."""
    sha256: str | None = None
    """64 lower-case hexadecimal digits that the file must come to."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `text` says.

        Raises UsageError for an address without a digest or of another kind, a file of the hub without a pin, a
        digest that is none, and a glob with a digest.
        """
        pinned = _PIN.fullmatch(text)
        rest, sha256 = (pinned["rest"], pinned["sha256"].lower()) if pinned else (text, None)
        schemed = _SCHEME.match(rest)
        scheme: Scheme | None = _SCHEMES.get(schemed["scheme"].lower()) if schemed else "file"
        if scheme is None:
            # Before an @ may stand a password.
            shown = f"{rest.partition('://')[0]}://" if "@" in rest else text
            _refuse(shown, "this kind of address cannot be read", "give a path, https://… or hf://datasets/…")
        with_members = (_LOCAL_MEMBERS if scheme == "file" else _REMOTE_MEMBERS).fullmatch(rest)
        place, members = with_members.group("place", "members") if with_members else (rest, None)
        location = cls(scheme, place, members, sha256)
        location._check(text)
        return location

    def _check(self, text: str) -> None:
        # First, for its refusals keep passwords to themselves.
        if self.scheme == "https":
            self.address()
        elif self.scheme == "hf":
            self.hub_file()
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            _refuse(text, "a sha256 has 64 hexadecimal digits", "`sha256sum FILE` prints it")
        if self.scheme == "https" and self.sha256 is None:
            what = "a file that is fetched needs its digest, or another one could come without anybody noticing"
            _refuse(text, what, "append #sha256= and the 64 digits that `sha256sum FILE` prints")
        if self.scheme == "file" and self.sha256 is not None and _GLOB.search(self.place):
            _refuse(text, "one digest cannot be that of several files", "name one file, or leave #sha256= out")

    def address(self) -> "Address":
        """What is named on the web. Raises UsageError where that cannot be."""
        from mlctl.data.remote_address import Address

        return Address.parse(self.place)

    def hub_file(self) -> "HubFile":
        """What is named on the hub. Raises UsageError where that cannot be."""
        from mlctl.data.hub_reference import HubFile

        return HubFile.parse(self.place if self.sha256 is None else f"{self.place}#sha256={self.sha256}")

    @property
    def is_remote(self) -> bool:
        """Whether the file is fetched before it is read."""
        return self.scheme != "file"

    @property
    def file_name(self) -> str:
        """What the file is called where it comes from."""
        return self.address().file_name if self.scheme == "https" else PurePosixPath(self.place).name


def names_archive(name: str) -> bool:
    """Whether a file's name ends as an archive's does."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def _refuse(text: str, what: str, next_step: str) -> NoReturn:
    raise UsageError(what, where=text if text.isprintable() else repr(text), next=next_step)
