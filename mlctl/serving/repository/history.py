"""What became of a model: `history.jsonl` in its folder, one line for every event, to which is only ever added."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mlctl.engine.lineage import host, now

FILE_NAME: Final = "history.jsonl"
Kind: TypeAlias = Literal["published", "promoted", "rolled back", "refused"]

_LONGEST_LINE: Final = 8192
_LONGEST_REASON: Final = 2000


@dataclass(frozen=True)
class Event:
    """Something that happened to a model; None, or no text, where a field means nothing to it."""

    when: str
    """UTC, ISO 8601."""
    who: str
    """user@host."""
    what: Kind
    version: int | None = None
    label: str = ""
    """The label that was moved to the version."""
    before: int | None = None
    """Where the label pointed."""
    fingerprint: str = ""
    """Of the artifact."""
    recipe: str = ""
    step: str = ""
    verdict: str = ""
    """What came of the gates."""
    why: str = ""
    """The reason of a refusal."""


def happened(what: Kind, who: str = "", **more: Any) -> Event:
    """The event, now; whoever runs this process did it, unless another is named."""
    return Event(now(), who or this_user(), what, **more)


def this_user() -> str:
    """user@host, as far as the system knows them."""
    # Asked for by its number where no name belongs to it, as in many containers.
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{name}@{host()}"


def append(folder: Path, events: Iterable[Event]) -> None:
    """Add the events to the model's history, and force them to disk. Raises OSError.

    A line is written at once, so that writers need no lock; what a killed one left of a line is ended first.
    """
    lines = b"".join(_line(each) for each in events)
    with (folder / FILE_NAME).open("ab+") as stream:
        if stream.tell() and not _ends_a_line(stream.fileno(), stream.tell()):
            lines = b"\n" + lines
        stream.write(lines)
        stream.flush()
        os.fsync(stream.fileno())


def read(folder: Path) -> tuple[Event, ...]:
    """All events, the oldest first; a line that was never finished is none. Raises OSError."""
    try:
        content = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(_events(content))


def _line(event: Event) -> bytes:
    stated = {key: each for key, each in asdict(event).items() if each not in (None, "")}
    if "why" in stated:
        stated["why"] = str(stated["why"])[:_LONGEST_REASON]
    return json.dumps(stated, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _ends_a_line(handle: int, length: int) -> bool:
    return os.pread(handle, 1, length - 1) == b"\n"


def _events(content: bytes) -> Iterator[Event]:
    names = {each.name for each in fields(Event)}
    for line in content.split(b"\n"):
        if not line or len(line) > _LONGEST_LINE:
            continue
        try:
            raw = json.loads(line)
            event = Event(**{key: each for key, each in raw.items() if key in names})
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
        if _is_whole(event):
            yield event


def _is_whole(event: Event) -> bool:
    values = asdict(event)
    numbers = [values.pop(key) for key in ("version", "before")]
    return all(isinstance(each, str) for each in values.values()) and all(
        each is None or type(each) is int for each in numbers
    )
