"""What a command line may hold, read from the commands themselves: all that a completion script needs to know."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import typer
from typer._click import core as click
from typer.core import TyperArgument, TyperGroup, TyperOption

from mlctl.cli.app import app

HELP_LENGTH = 120


class Kind(StrEnum):
    """What stands at a place of the command line."""

    RECIPE = "recipe"
    PATH = "path"
    FOLDER = "folder"
    STEP = "step"
    OVERRIDE = "override"
    CHOICE = "choice"
    ANYTHING = "anything"


@dataclass(frozen=True)
class Value:
    """What an option or an argument is given; `choices` are the words of a CHOICE."""

    kind: Kind
    name: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option, with all its spellings; a flag has no value."""

    spellings: tuple[str, ...]
    help: str
    value: Value | None
    is_repeatable: bool

    @property
    def long(self) -> str:
        """The spelling that begins with two hyphens."""
        return next(spelling for spelling in self.spellings if spelling.startswith("--"))

    @property
    def short(self) -> str | None:
        """The spelling with one hyphen, where there is one."""
        return next((spelling for spelling in self.spellings if not spelling.startswith("--")), None)


@dataclass(frozen=True)
class Command:
    """A command: its options, its first argument, and what may follow that any number of times."""

    name: str
    help: str
    options: tuple[Option, ...]
    first: Value | None
    later: Value | None


@dataclass(frozen=True)
class Grammar:
    """The whole command line: options that stand before a command, and the commands in the order of the help."""

    options: tuple[Option, ...]
    commands: tuple[Command, ...]

    def values(self) -> dict[tuple[str, ...], dict[Value, tuple[str, ...]]]:
        """What options are given, by their spellings: each value, and the commands that mean that by the option.

        Raises ValueError for a spelling that is a flag to one command and takes a value of another: a script that reads
        the words of a line could not tell which of them are values.
        """
        found: dict[tuple[str, ...], dict[Value, tuple[str, ...]]] = {}
        for command in self.commands:
            for option in command.options:
                if option.value:
                    meant = found.setdefault(option.spellings, {})
                    meant[option.value] = (*meant.get(option.value, ()), command.name)
        valued = {spelling for spellings in found for spelling in spellings}
        for option in (option for command in self.commands for option in command.options if not option.value):
            if valued.intersection(option.spellings):
                raise ValueError(f"{option.long} is a flag to some commands, and takes a value of others")
        return found

    def with_option(self, option: Option) -> tuple[str, ...]:
        """Names of the commands that have it."""
        return tuple(command.name for command in self.commands if option in command.options)


KINDS: Final = {
    "RECIPE": Kind.RECIPE,
    "DATA": Kind.PATH,
    "FILE": Kind.PATH,
    "FOLDER": Kind.FOLDER,
    "STEP": Kind.STEP,
    "KEY=VALUE": Kind.OVERRIDE,
    "A": Kind.PATH,
    "B": Kind.PATH,
    "MODEL": Kind.PATH,
    "GATE": Kind.ANYTHING,
    "COLUMN": Kind.ANYTHING,
    "N": Kind.ANYTHING,
    "M": Kind.ANYTHING,
    "X": Kind.ANYTHING,
    "TEXT": Kind.ANYTHING,
    "HOST:PORT": Kind.ANYTHING,
    "NAME": Kind.ANYTHING,
    "DAYS": Kind.ANYTHING,
    "ADDRESS": Kind.ANYTHING,
    "LABEL": Kind.ANYTHING,
    "NAME@VERSION": Kind.ANYTHING,
    "RECIPE|MODEL.onnx": Kind.PATH,
}
"""What each placeholder of the help stands for; any other with a bar in it lists the choices."""


def read_grammar() -> Grammar:
    """What `mlctl` takes. Raises KeyError for a placeholder that KINDS does not have."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = group.make_context("mlctl", [], resilient_parsing=True)
    commands = tuple(command_of(name, command, context) for name, command in group.commands.items())
    options = tuple(_option(each) for each in group.get_params(context) if isinstance(each, TyperOption))
    return Grammar(options, commands)


def command_of(name: str, command: click.Command, above: click.Context | None) -> Command:
    """What one command takes, below what is `above` it. Raises KeyError as `read_grammar` does, and ValueError."""
    context = typer.Context(command, parent=above, info_name=name)
    if isinstance(command, TyperGroup):
        return _group(name, command, context)
    parameters = command.get_params(context)
    options = tuple(_option(each) for each in parameters if isinstance(each, TyperOption))
    first, later = _arguments([each for each in parameters if isinstance(each, TyperArgument)])
    return Command(name, command.get_short_help_str(HELP_LENGTH), options, first, later)


def _group(name: str, group: TyperGroup, context: click.Context) -> Command:
    """A group as one command: its first argument is one of its commands, and it takes what any of those takes.

    Raises ValueError when they take different arguments, which the scripts cannot tell apart.
    """
    inner = tuple(command_of(each, command, context) for each, command in group.commands.items())
    values = {value for each in inner for value in (each.first, each.later) if value}
    if len({value.kind for value in values}) > 1:
        raise ValueError(f"the commands of {name} take different arguments")
    options = tuple(dict.fromkeys(option for each in inner for option in each.options))
    choice = Value(Kind.CHOICE, "command", tuple(each.name for each in inner))
    later = next((each.first for each in inner if each.first), None)
    return Command(name, group.get_short_help_str(HELP_LENGTH), options, choice, later)


def _arguments(arguments: list[TyperArgument]) -> tuple[Value | None, Value | None]:
    """The first, and what may follow it: nothing, a second one, or a last one that takes many words."""
    if not arguments:
        return None, None
    last = arguments[-1]
    return _value(arguments[0]), _value(last) if last.nargs == -1 or len(arguments) > 1 else None


def _option(option: TyperOption) -> Option:
    value = None if option.is_flag else _value(option)
    return Option(tuple(option.opts), option.help or "", value, option.multiple)


def _value(parameter: TyperArgument | TyperOption) -> Value:
    placeholder = (parameter.metavar or "").strip("[].")
    name = str(parameter.name).rstrip("_")
    if "|" in placeholder and placeholder not in KINDS:
        return Value(Kind.CHOICE, name, tuple(word.partition(":")[0] for word in placeholder.split("|")))
    return Value(KINDS[placeholder], name)
