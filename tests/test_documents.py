"""Documents that cannot lie."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from readme_examples import README, ROOT, Example, Shell, examples
from typer.main import get_command

from mlctl import __version__
from mlctl.cli.app import app
from mlctl.engine.figures import Figure
from mlctl.engine.gates import Difference, GateResult
from mlctl.engine.verdict import Failure, StepResult, Verdict
from mlctl.errors import Interrupted, MlctlError, Refusal
from mlctl.recipe.loading import load_recipe

TEXT = README.read_text()
MACHINES = ("mlctl doctor", "mlctl inspect")
"""Commands that speak of this machine: its instructions, its libraries."""
BY_FINGERPRINT = ("mlctl verify", "mlctl gc")
"""Commands whose lines stand in the order of fingerprints, which hold what types this machine computes fast."""


def plain(output: str) -> list[str]:
    """The words of an output, without what differs from machine to machine and from minute to minute."""
    output = re.sub(r"^.*(?:too noisy to tell|can be told|is slower than) .*\n?", "", output, flags=re.MULTILINE)
    output = re.sub(r"[0-9a-f]{12,64}", "HASH", output)
    output = re.sub(r"mlctl_\S+", "TOKEN", output)
    output = re.sub(r"\S+T\d\d:\d\d:\d\d\S* (?:on|by) \S+", "WHEN", output)
    output = re.sub(r"\d+ min \d+ s|\d[\d.,]* m?s\b", "TIME", output)
    output = re.sub(r"\d+ threads?", "THREADS", output)
    output = re.sub(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?", "N", output)
    return re.sub(r"─+", "─", output).split()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("readme"))


def test_the_readmes_examples_print_what_it_says(shell: Shell) -> None:
    found: dict[str, list[str]] = {}
    for example in examples(TEXT):
        printed = shell.output(example.command)
        if not _says(example, printed):
            found[example.command] = [example.output, printed]
    assert not found, "`python tests/readme_examples.py` writes the examples anew"


def _says(example: Example, printed: str) -> bool:
    if any(command in example.command for command in MACHINES):
        return _first_words(printed) == _first_words(example.output)
    expected, given = plain(example.output), plain(printed)
    if any(command in example.command for command in BY_FINGERPRINT):
        return sorted(given) == sorted(expected)
    return given == expected


def _first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_the_readme_quotes_the_recipe_as_it_is() -> None:
    match = re.search(r"<!-- recipe: (\S+) -->\n```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert match
    assert match[2] == (ROOT / match[1]).read_text()


def test_the_readme_begins_with_two_commands_of_one_line_each() -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```$", TEXT.partition("## The recipe")[0], re.MULTILINE | re.DOTALL)
    assert [command.count("\n") for command in commands] == [0, 0]
    assert commands[0].endswith("mlctl run recipes/digits.yaml")
    assert commands[1].endswith("pytest -q -n auto")


def test_the_readme_has_an_example_of_every_command() -> None:
    shown = {each.command.split()[1] for each in examples(TEXT) if each.command.startswith("mlctl ")}
    assert set(_commands()) <= shown


def test_the_readme_names_every_option() -> None:
    options = {name for _, command in _leaves() for name in _options(command)}
    assert sorted(option for option in options if option not in TEXT) == []


def test_every_flag_is_a_reviewed_one() -> None:
    lines = [f"{name} {' '.join(_options(command))}".rstrip() for name, command in _leaves()]
    assert "\n".join(lines) + "\n" == (Path(__file__).parent / "flags.txt").read_text()


def _commands() -> dict[str, object]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def _leaves() -> Iterator[tuple[str, object]]:
    """Every command that takes options: those of a group, such as `debug parity`, in the group's place."""
    for name, command in _commands().items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {each}", below) for each, below in inner.items()) if inner else ((name, command),)


def _options(command: object) -> Iterator[str]:
    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "option" and parameter.name != "help":
            yield parameter.opts[0]


def _errors(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        if each is not MlctlError:
            yield each
        yield from _errors(each)


@pytest.mark.parametrize("error", list(_errors()), ids=lambda each: each.__name__)
def test_every_error_has_an_exit_code_a_line_in_the_readme_and_a_next_step(error: type[Refusal]) -> None:
    assert error.default_next
    codes = "130, 143" if error is Interrupted else str(error.exit_code)
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| {codes} |"))
    assert f"`{error.__name__}`" in row


@pytest.mark.parametrize("part", [Verdict, StepResult, Figure, GateResult, Difference, Failure])
def test_the_readme_names_every_key_of_the_verdict(part: type) -> None:
    section = TEXT.partition("## The verdict")[2].partition("## Exit codes")[0]
    assert [
        field.name for field in dataclasses.fields(part) if not re.search(rf"[`.]{field.name}(\[\])?`", section)
    ] == []


def test_the_version_is_the_changelogs_newest() -> None:
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == __version__


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_recipe_loads(recipe: Path) -> None:
    assert load_recipe(recipe).steps
