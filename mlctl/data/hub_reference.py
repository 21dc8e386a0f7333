"""Names of files on the Hugging Face hub: `hf://datasets/owner/name@REVISION/file[#sha256=HEX]`.

Standard library only: the plan asks before anything heavy may load.
"""

import re
from dataclasses import dataclass
from typing import Literal, NoReturn, Self
from urllib.parse import quote, unquote

from mlctl.errors import UsageError

SCHEME = "hf://"
FORM = "hf://datasets/OWNER/NAME@COMMIT/FILE"

_COMMIT = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)
_PIN = re.compile(r"(?P<location>.*?)#sha256=(?P<sha256>[0-9a-f]*)", re.IGNORECASE | re.DOTALL)
_PLACE = re.compile(r"(?P<owner>[^/@]*)/(?P<name>[^/@]*)(?:@(?P<revision>[^/]*))?(?:/(?P<file>.*))?", re.DOTALL)
# What the hub takes as an owner's or a repository's name: `huggingface_hub.utils.validate_repo_id`.
_NAME = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# As git's own rules for names (git-check-ref-format) where they guard an address; the hub knows the rest.
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository on the hub, at one revision.

    `revision` is a commit of 40 lower-case hexadecimal digits, or any branch or tag where `sha256` (64 lower-case
    hexadecimal digits) pins the file.
    """

    kind: Literal["datasets"]
    owner: str
    name: str
    revision: str
    file: str
    sha256: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `text` names. A slash in a revision is written `%2F`. Raises UsageError for anything else."""
        pinned = _PIN.fullmatch(text)
        location, sha256 = (pinned["location"], pinned["sha256"].lower()) if pinned else (text, None)
        if sha256 is not None and len(sha256) != 64:
            _refuse(text, f"a sha256 has 64 hexadecimal digits, this one {len(sha256)}", "`sha256sum FILE` prints it")
        found = _PLACE.fullmatch(_repository_part(text, location))
        if found is None or not (_NAME.fullmatch(found["owner"]) and _NAME.fullmatch(found["name"])):
            _refuse(text, "this names no repository of the hub", f"write {FORM}; the owner is part of the name")
        if not found["file"] or not _is_plain(found["file"]):
            _refuse(
                text, "this names no file of the repository", f"write {FORM}, the file as its page on the hub names it"
            )
        revision = _pinned_revision(text, unquote(found["revision"] or ""), sha256)
        return cls("datasets", found["owner"], found["name"], revision, found["file"], sha256)

    @property
    def repository(self) -> str:
        """The repository's name on the hub: `owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def names_commit(self) -> bool:
        """Whether the revision is a commit, which never changes, rather than a branch or a tag."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{SCHEME}{self.kind}/{self.repository}@{quote(self.revision, safe='')}/{self.file}"


def _repository_part(text: str, location: str) -> str:
    """What follows `hf://datasets/`."""
    if not location.startswith(f"{SCHEME}datasets/"):
        _refuse(text, "sources on the hub are files of data sets", f"write {FORM}")
    return location.removeprefix(f"{SCHEME}datasets/")


def _pinned_revision(text: str, revision: str, sha256: str | None) -> str:
    if _COMMIT.fullmatch(revision):
        return revision.lower()
    next_step = "write the commit's 40 hexadecimal digits (History on the page of the repository), or add #sha256=…"
    if not revision:
        _refuse(text, "the revision is missing", next_step)
    if not _REVISION.fullmatch(revision):
        _refuse(text, f"{revision!r} is no revision", next_step)
    if sha256 is None:
        _refuse(text, f"the revision {revision!r} is a branch or a tag, which can change", next_step)
    return revision


def _is_plain(file: str) -> bool:
    """Whether the path stays within its repository and holds nothing that a terminal or an address would act on."""
    return file.isprintable() and "\\" not in file and not {"", ".", ".."} & set(file.split("/"))


def _refuse(text: str, what: str, next_step: str) -> NoReturn:
    raise UsageError(what, where=text if text.isprintable() else repr(text), next=next_step)
