"""Why a step is not simply reused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mlctl.engine.fingerprint import Identity, SourceFile

_ABSENT = object()


@dataclass(frozen=True)
class New:
    """The step has never been made."""

    def __str__(self) -> str:
        return "never made"


@dataclass(frozen=True)
class Missing:
    """The artifact was here and is gone."""

    def __str__(self) -> str:
        return "its artifact is no longer in the store"


@dataclass(frozen=True)
class SettingChanged:
    """A recipe key has another value than when the artifact was made."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} → {self.after}"


@dataclass(frozen=True)
class InputChanged:
    """An artifact that the step reads is another one."""

    role: str

    def __str__(self) -> str:
        return f"its input {self.role} is another"


@dataclass(frozen=True)
class InputRemade:
    """An artifact that the step reads was made again, and came out otherwise."""

    role: str

    def __str__(self) -> str:
        return f"its input {self.role} was made again with other bytes"


@dataclass(frozen=True)
class SourceChanged:
    """A file outside the store has other content."""

    path: str
    how: str

    def __str__(self) -> str:
        return f"{self.path} {self.how}"


@dataclass(frozen=True)
class RevisionChanged:
    """The stage's code makes other bytes than it did."""

    stage: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"code of {self.stage}: revision {self.before} → {self.after}"


@dataclass(frozen=True)
class Damaged:
    """A file of the artifact is not what was written."""

    what: str

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class Forced:
    """The command asked for it."""

    def __str__(self) -> str:
        return "forced"


@dataclass(frozen=True)
class Unfinished:
    """An earlier process stopped in the middle."""

    def __str__(self) -> str:
        return "goes on where it stopped"


Reason: TypeAlias = (
    New
    | Missing
    | SettingChanged
    | InputChanged
    | InputRemade
    | SourceChanged
    | RevisionChanged
    | Damaged
    | Forced
    | Unfinished
)


def differences(step: str, before: Identity, after: Identity) -> tuple[Reason, ...]:
    """What changed between the artifact that the step last came to and the one that is wanted now."""
    return (
        *_setting_changes(step, before.settings, after.settings),
        *_source_changes(before.sources, after.sources),
        *(InputChanged(role) for role in after.inputs if before.inputs.get(role) != after.inputs[role]),
        *(InputChanged(role) for role in before.inputs if role not in after.inputs),
        *([RevisionChanged(after.stage, before.revision, after.revision)] if before.revision != after.revision else []),
    )


def _setting_changes(path: str, before: Any, after: Any) -> Iterator[SettingChanged]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*after, *(key for key in before if key not in after)]:
            yield from _setting_changes(f"{path}.{key}", before.get(key, _ABSENT), after.get(key, _ABSENT))
    elif _plain(before) != _plain(after):
        yield SettingChanged(path, _text(before), _text(after))


def _source_changes(before: tuple[SourceFile, ...], after: tuple[SourceFile, ...]) -> Iterator[SourceChanged]:
    old = {source.path: source.sha256 for source in before}
    new = {source.path: source.sha256 for source in after}
    for path in [*new, *(path for path in old if path not in new)]:
        if path not in old:
            yield SourceChanged(path, "is new")
        elif path not in new:
            yield SourceChanged(path, "is gone")
        elif old[path] != new[path]:
            yield SourceChanged(path, "has other content")


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return str(_plain(value))
