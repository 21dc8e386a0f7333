"""YAML text becomes a tree that remembers where everything stands; with limits, and without surprises."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from mlctl.recipe.scalars import Scalar, resolved_scalar
from mlctl.recipe.tree import Entry, Node, Place, collection, refuse
from mlctl.recipe.wording import found, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 20_000

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PARSER_FLAWS = (yaml.YAMLError, ValueError, OverflowError)  # PyYAML without libyaml lets odd escapes raise the last two

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CORE = "tag:yaml.org,2002:"
_CORE_TYPES = {f"{_CORE}int": int, f"{_CORE}float": float, f"{_CORE}bool": bool, f"{_CORE}null": type(None)}


def decoded(raw: bytes, file: str) -> str:
    """The text of a file's bytes. Raises RecipeError where they are too many or not UTF-8."""
    if len(raw) > MAX_BYTES:
        refuse(Place(1, 1, file), "the file is larger than 1 MiB; a recipe is written by hand")
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as flaw:
        before = raw[: flaw.start].decode()
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"), file)
        refuse(place, f"byte 0x{raw[flaw.start]:02x} is not UTF-8; save the file as UTF-8")


def read_tree(text: str, origin: Place) -> Node | None:
    """The tree of one YAML document, or None where there is none.

    `origin` is the place of the first character; with line 0 every place is `origin` itself.
    Raises RecipeError, with the place, for everything that is not a recipe's kind of YAML.
    """
    if match := _UNPRINTABLE.search(text):
        before = text[: match.start()]
        line, column = before.count("\n"), match.start() - before.rfind("\n") - 1
        place = Place(line + 1, column + 1, origin.file) if origin.line else origin
        refuse(place, f"the character U+{ord(match[0]):04X} cannot stand in YAML; write it as an escape in quotes")
    return _Reader(origin).read(text)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been reached."""

    place: Place
    anchor: str | None
    items: list[Node] | None
    entries: dict[str, Entry]
    key: tuple[str, Place] | None = None


class _Reader:
    """Builds the tree from the parser's events, with its own stack: no depth of input can overflow Python's."""

    def __init__(self, origin: Place) -> None:
        self._origin = origin
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None while the anchored collection is open
        self._nodes = 0
        self._root: Node | None = None

    def read(self, text: str) -> Node | None:
        for event in self._events(text):
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._aliased(event), None)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._enter(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._leave()
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                refuse(self._place(event), "a second document begins; a recipe is one")
        return self._root

    def _events(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=LOADER)
        except yaml.MarkedYAMLError as flaw:
            place = self._place_of(_mark(flaw, text))
            words = ", ".join(part for part in (flaw.context, flaw.problem) if part)
            refuse(place, f"not YAML: {words}{_hint(text, place)}")
        except PARSER_FLAWS as flaw:
            refuse(self._origin, f"not YAML: {shown(str(flaw))}")

    def _place(self, event: yaml.Event) -> Place:
        return self._place_of(event.start_mark)

    def _place_of(self, mark: Any) -> Place:
        if mark is None or not self._origin.line:
            return self._origin
        return Place(mark.line + 1, mark.column + 1, self._origin.file)

    def _enter(self, event: yaml.CollectionStartEvent) -> None:
        place = self._place(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, f"{_CORE}{'map' if is_mapping else 'seq'}"):
            refuse(place, f"the tag '{shown(event.tag or '!')}' is not read here; take it away")
        if self._awaits_key():
            refuse(place, "a key must be a text")
        self._stack.append(_Open(place, event.anchor, None if is_mapping else [], {}))
        self._count(place, 1, len(self._stack))
        if event.anchor:
            self._anchors[event.anchor] = None

    def _leave(self) -> None:
        done = self._stack.pop()
        node = collection(done.place, done.entries if done.items is None else tuple(done.items))
        self._nodes -= node.size  # `_add` counts the collection together with what is in it
        self._add(node, done.anchor)

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        place, text = self._place(event), event.value
        if "\0" in text or (not text.isascii() and not _is_encodable(text)):
            refuse(place, "the text holds a character that no file can hold (NUL, or half of a surrogate pair)")
        if event.tag is None or event.tag in ("!", f"{_CORE}str"):
            is_text = event.tag is not None or not event.implicit[0]
            return Node(place, text if is_text else _value(text, place))
        return Node(place, _tagged(event.tag, _value(text, place), place))

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        place, name = self._place(event), event.anchor or ""
        if name not in self._anchors:
            refuse(place, f"the alias '*{shown(name)}' names no anchor above it")
        node = self._anchors[name]
        if node is None:
            refuse(place, f"the alias '*{shown(name)}' stands inside what it names")
        return replace(node, place=place)

    def _add(self, node: Node, anchor: str | None) -> None:
        if self._awaits_key():
            self._begin(node)
        else:
            self._count(node.place, node.size, len(self._stack) + node.height)
            self._put(node)
        if anchor:
            self._anchors[anchor] = node

    def _put(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        owner = self._stack[-1]
        if owner.items is not None:
            owner.items.append(node)
        elif owner.key is not None:
            name, place = owner.key
            owner.entries[name], owner.key = Entry(place, node), None

    def _awaits_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].items is None and self._stack[-1].key is None

    def _begin(self, node: Node) -> None:
        owner, name = self._stack[-1], node.value
        if not isinstance(name, str):
            refuse(node.place, f"a key must be a text, found {found(name)}; write it in quotes")
        if name == "<<":
            refuse(node.place, "merge keys are not read; write the keys out")
        if name in owner.entries:
            first = owner.entries[name].key
            where = f" on line {first.line}" if first.line else ""
            refuse(
                node.place, f"the key '{shown(name)}' stands here a second time; the first is{where or ' before it'}"
            )
        owner.key = (name, node.place)

    def _count(self, place: Place, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            refuse(place, f"more than {MAX_NODES:,} values, aliases written out")
        if depth > MAX_DEPTH:
            refuse(place, f"nested more than {MAX_DEPTH} levels deep")


def _mark(flaw: yaml.MarkedYAMLError, text: str) -> Any:
    """Where the parser stumbled; where that is the end of the text, what was never closed."""
    mark = flaw.problem_mark
    is_at_end = mark is not None and mark.index >= len(text.rstrip())
    return flaw.context_mark or mark if is_at_end or mark is None else mark


def _value(text: str, place: Place) -> Scalar:
    try:
        return resolved_scalar(text)
    except ValueError as flaw:
        refuse(place, str(flaw))


def _tagged(tag: str, value: Scalar, place: Place) -> Scalar:
    if type(value) is not _CORE_TYPES.get(tag):
        refuse(place, f"the tag '{shown(tag)}' is not read here; take it away")
    return value


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _hint(text: str, place: Place) -> str:
    lines = text.split("\n")
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    return "; indent with spaces, not with tabs" if line[: len(line) - len(line.lstrip())].count("\t") else ""
