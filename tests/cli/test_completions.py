import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from completing_shells import ASK, PROMPT, SCRIPTS, environment, type_into
from typer.main import get_command
from typer.testing import CliRunner

from mlctl.cli.app import app
from mlctl.cli.completions.grammar import Command, Grammar, Kind, Option, Value, command_of, read_grammar
from mlctl.cli.options import RecipeArgument
from mlctl.recipe.loading import load_recipe

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "zsh", "fish")

RECIPE = """\
# train: a comment is no step
mlctl: 1
name: digits
prepare:
  train: 0.7
"train": {epochs: 3}
train.wide  :  # of the same data
  model:
#prune: {}
export: {}
quantize.half: {method: "float16"}
eval:\r
evaluate: {}
training: {}
gates:
  - eval[train].accuracy >= 0.97
"""
GROUP_COMMANDS = {"debug": ["parity"], "token": ["create", "list", "revoke"]}
"""Commands that have commands of their own, and those."""

STEPS = ["eval", "export", "prepare", "quantize.half", "train", "train.wide"]

Ask = Callable[..., list[list[str]]]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory; beside it a home, and commands that would leave a trace."""
    work = tmp_path / "work"
    (work / "a folder").mkdir(parents=True)
    (work / "models").mkdir()
    for name in ("my digits.yaml", "plain.yml"):
        (work / name).write_text(RECIPE)
    (work / "data.csv").write_text("a,b\n")
    (work / "no.yaml").write_bytes(b"\x00\xff{[:\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "at home.yaml").write_text(RECIPE)
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("mlctl", "python", "python3"):
        (stubs / name).write_text(f"#!/bin/sh\ntouch {shlex.quote(str(tmp_path / 'started'))}\n")
        (stubs / name).chmod(0o755)
    return work


@pytest.fixture
def ask(shell: str, folder: Path) -> Ask:
    """What TAB offers at the end of each line: sorted, of a path the last name, of an option's value the value."""

    def answers(*lines: str) -> list[list[str]]:
        return [sorted(plain(offer) for offer in offers) for offers in ASK[shell](folder, lines)]

    return answers


def plain(offer: str) -> str:
    word = re.sub(r"^--[a-z-]+=(?=.)", "", offer.partition("\t")[0])
    return Path(word).name if "/" in word else word


def test_the_scripts_are_what_the_commands_say(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "mlctl.cli.completions", str(tmp_path / "made")], cwd=ROOT, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_text() for path in SCRIPTS.iterdir()}


def test_an_option_may_mean_two_things_to_two_commands_and_is_a_flag_to_all_or_none() -> None:
    step, folder = (Value(kind, "at") for kind in (Kind.STEP, Kind.FOLDER))
    options = tuple(Option(("--at",), "", value, is_repeatable=False) for value in (step, folder, folder, None))
    commands = tuple(Command(name, "", (each,), None, None) for name, each in zip("abcd", options, strict=True))
    assert Grammar((), commands[:3]).values() == {("--at",): {step: ("a",), folder: ("b", "c")}}
    with pytest.raises(ValueError, match="--at is a flag to some commands, and takes a value of others"):
        Grammar((), commands).values()


def test_what_an_option_is_given_is_told_by_the_command(ask: Ask) -> None:
    everything = sorted([*RECIPES, "data.csv"])
    assert ask("mlctl generate plain.yml --tokens ", "mlctl token list --tokens ") == [[], everything]
    after, joined = ask("mlctl token --tokens data.csv ", "mlctl token list --tokens=da")
    assert (after, joined) == (GROUP_COMMANDS["token"], ["data.csv"])


def test_commands_are_offered_and_narrowed(ask: Ask) -> None:
    names = sorted(command.name for command in read_grammar().commands)
    assert ask("mlctl ", "mlctl tr", "mlctl xyz", "mlctl --version ") == [names, ["train"], [], names]


@pytest.mark.parametrize("shell", ["zsh", "fish"], indirect=True)
def test_commands_are_offered_with_their_help(shell: str, folder: Path) -> None:
    [offers] = ASK[shell](folder, ("mlctl ",))
    # zsh puts the name and a line before the help.
    helps = {name: re.sub(r"^\S+ +-- ", "", text) for name, _, text in (offer.partition("\t") for offer in offers)}
    listing = CliRunner().invoke(app, ["--help"], terminal_width=200).output.partition("Commands:")[2]
    assert helps == dict(re.findall(r"^  (\S+) +(.*)$", listing, re.MULTILINE))


def test_every_option_of_a_command_is_offered(ask: Ask) -> None:
    listed = {command.name: listed_options(command.name) for command in read_grammar().commands}
    offered = ask(*(f"mlctl {name} {GROUP_COMMANDS.get(name, [''])[0]} --" for name in listed))
    assert dict(zip(listed, offered, strict=True)) == listed


def listed_options(command: str) -> list[str]:
    """What the help of a command lists; of one that has commands, what any of those lists."""
    lines = [[command, *below.split()] for below in GROUP_COMMANDS.get(command, [""])]
    helps = [CliRunner().invoke(app, [*line, "--help"]).output for line in lines]
    return sorted(set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", "\n".join(helps), re.MULTILINE)))


def test_options_before_the_command_are_its_own(ask: Ask) -> None:
    assert ask("mlctl --") == [["--help", "--version"]]


RECIPES = ["a folder", "models", "my digits.yaml", "no.yaml", "plain.yml"]


def test_recipes_and_folders_are_offered_where_a_recipe_stands(ask: Ask) -> None:
    assert ask("mlctl run ", "mlctl verify ", "mlctl gc ", "mlctl gc plain.yml ", "mlctl plan --json ") == [RECIPES] * 5
    assert ask("mlctl run p", "mlctl run ~/", "mlctl run zz") == [["plain.yml"], ["at home.yaml"], []]


def test_a_recipe_with_a_blank_in_its_name_is_completed(ask: Ask) -> None:
    starts = (r"my\ d", "'my d", '"my d', "./my", r"models/../my\ ")
    assert ask(*(f"mlctl train {start}" for start in starts)) == [["my digits.yaml"]] * len(starts)


def test_any_file_is_offered_where_any_will_do(ask: Ask) -> None:
    everything = sorted([*RECIPES, "data.csv"])
    lines = ("mlctl init ", "mlctl init -o ", "mlctl init x --output ", "mlctl run plain.yml --junit ")
    assert ask(*lines) == [everything] * 4


def test_the_commands_of_a_group_are_offered_and_then_their_arguments(ask: Ask) -> None:
    everything = sorted([*RECIPES, "data.csv"])
    lines = ("mlctl debug ", "mlctl debug pa", "mlctl debug xyz")
    assert ask(*lines) == [["parity"], ["parity"], []]
    lines = ("mlctl debug parity ", "mlctl debug parity data.csv ", "mlctl debug parity --all data.csv mo")
    assert ask(*lines) == [everything, everything, ["models"]]
    assert ask("mlctl debug parity data.csv models --data ") == [RECIPES]


def test_a_group_whose_commands_differ_in_what_they_take_is_refused() -> None:
    def takes_a_recipe(recipe: RecipeArgument) -> None: ...
    def takes_a_model(a: Annotated[Path, typer.Argument(metavar="A")]) -> None: ...

    group, alike = typer.Typer(), typer.Typer()
    for command in (takes_a_recipe, takes_a_model):
        group.command()(command)
    alike.command("one")(takes_a_model)
    alike.command("two")(takes_a_model)
    kinds = Value(Kind.CHOICE, "command", ("one", "two")), Value(Kind.PATH, "a")
    read = command_of("alike", get_command(alike), None)
    assert (read.first, read.later) == kinds
    with pytest.raises(ValueError, match="the commands of group take different arguments"):
        command_of("group", get_command(group), None)


def test_a_redirection_takes_any_file(ask: Ask) -> None:
    assert ask("mlctl schema >da", "mlctl plan plain.yml --json > da") == [["data.csv"]] * 2


def test_only_folders_are_offered_to_store(ask: Ask) -> None:
    lines = ("mlctl run --store ", "mlctl gc plain.yml --store ", "mlctl doctor --store=", "mlctl doctor --store=mo")
    assert ask(*lines) == [["a folder", "models"]] * 3 + [["models"]]


def test_devices_are_offered(ask: Ask) -> None:
    lines = ("mlctl run plain.yml --device ", "mlctl train --device=c", "mlctl eval --device=")
    devices = ["auto", "cpu", "cuda", "tensorrt"]
    assert ask(*lines) == [devices, ["cpu", "cuda"], devices]


def test_nothing_is_offered_for_a_number_or_a_column(ask: Ask) -> None:
    assert ask("mlctl run --threads ", "mlctl init data.csv --target ") == [[], []]


def test_steps_of_the_recipe_on_the_line_are_offered(ask: Ask) -> None:
    recipes = (r"my\ digits.yaml", "'my digits.yaml'", '"my digits.yaml"', r"~/at\ home.yaml")
    assert ask(*(f"mlctl run {recipe} --until " for recipe in recipes)) == [STEPS] * len(recipes)
    lines = (
        "mlctl train --json --store models plain.yml --force=",
        "mlctl run --device=cpu plain.yml train.epochs=3 --until tr",
    )
    assert ask(*lines) == [STEPS, ["train", "train.wide"]]


def test_names_that_mean_something_to_a_shell_are_only_names(ask: Ask, folder: Path) -> None:
    names = [
        "it's.yaml",
        '"a.yaml',
        "$HOME.yaml",
        "a;b&c>.yaml",
        "ü ñ.yaml",
        "[1]*?.yaml",
        "a=b:c.yaml",
        "#a\\b.yaml",
        "~.yml",
    ]
    for name in names:
        (folder / name).write_text("train: {}\n")
    assert ask("mlctl run ") == [sorted([*RECIPES, *names])]
    assert ask(*(f"mlctl run {shlex.quote(name)} --until " for name in names)) == [["train"]] * len(names)


def test_overrides_begin_with_a_step(ask: Ask) -> None:
    keys = [f"{step}." for step in STEPS]
    lines = (
        "mlctl run plain.yml ",
        "mlctl run -- plain.yml seed=1 ",
        "mlctl show plain.yml --set ",
        "mlctl show plain.yml qu",
        "mlctl show plain.yml train.epochs",
        "mlctl verify plain.yml z",
    )
    assert ask(*lines) == [keys, keys, keys, ["quantize.half."], [], []]


def test_a_recipe_that_cannot_be_read_has_no_steps(ask: Ask, folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (folder / "empty.yaml").write_text("")
    recipes = ("no.yaml", "missing.yaml", "pipe.yaml", "empty.yaml", "models", "epochs=3", "'open")
    assert ask(*(f"mlctl run {recipe} --until " for recipe in recipes[:-1])) == [[]] * 6
    assert ask(*(f"mlctl run {recipe} " for recipe in recipes[:-2])) == [[]] * 5


def test_nothing_on_the_line_is_carried_out(ask: Ask, folder: Path) -> None:
    ask("mlctl run $(touch x) --until ", "mlctl run `touch x` ", "mlctl run '$(touch x)' t", 'mlctl run "$(touch x)" t')
    assert not (folder / "x").exists()


def test_the_steps_offered_are_those_that_the_recipe_loads(ask: Ask) -> None:
    recipes = [ROOT / "recipes" / "digits.yaml", ROOT / "tests" / "recipe" / "digits.yaml"]
    steps = [sorted(step.name for step in load_recipe(recipe).steps) for recipe in recipes]
    assert ask(*(f"mlctl run {shlex.quote(str(recipe))} --until " for recipe in recipes)) == steps


def test_completing_starts_neither_mlctl_nor_python(ask: Ask, folder: Path) -> None:
    ask("mlctl ", "mlctl run ", "mlctl run plain.yml ", "mlctl run plain.yml --until ", "mlctl run -", "mlctl init ")
    trace = folder.parent / "started"
    assert not trace.exists()
    for name in ("mlctl", "python", "python3"):
        subprocess.run([name], env=environment(folder), check=True)
        assert trace.exists()
        trace.unlink()


RECORD = rf"""PS1='{PROMPT}'; """ + r"""mlctl() { printf '%s\n' "$@" >typed.txt; exit; }"""
LEFT = "\x02"
START_FILES = {
    "bash": f"source {SCRIPTS}/mlctl.bash\n{RECORD}\n",
    "zsh": f"fpath=({SCRIPTS} $fpath)\nautoload -Uz compinit\ncompinit -D -u\n{RECORD}\n",
}


@pytest.mark.parametrize("shell", list(START_FILES), indirect=True)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ru\tmy\ttr\twi\tepochs=3", ["run", "my digits.yaml", "train.wide.epochs=3"]),
        (
            "run 'my\t --until ev\t--device=cu\t--json",
            ["run", "my digits.yaml", "--until", "eval", "--device=cuda", "--json"],
        ),
        ("doctor --store=a\tx --js\t", ["doctor", "--store=a folder/x", "--json"]),
        ("plan --until  plain.yml" + LEFT * 10 + "ev\t", ["plan", "--until", "eval", "plain.yml"]),
        ("plan x=\t--js\t", ["plan", "x=1:2 3.yaml", "--json"]),
        ("plan ~/at\texp\tx=1", ["plan", "{home}/at home.yaml", "export.x=1"]),
    ],
)
def test_what_is_typed_with_tabs_arrives_whole(shell: str, folder: Path, line: str, words: list[str]) -> None:
    start = folder.parent / "home" / ".zshrc"
    start.write_text(START_FILES[shell])
    (folder / "x=1:2 3.yaml").touch()
    options = {"bash": ["--noprofile", "--rcfile", str(start), "-i"], "zsh": ["-d", "-i"]}
    type_into([shell, *options[shell]], folder, f"mlctl {line}\n")
    home = str(folder.parent / "home")
    assert (folder / "typed.txt").read_text().splitlines() == [word.replace("{home}", home) for word in words]
