"""Whatever does not compute answers before anything heavy could load."""

import subprocess
import sys

import pytest
from conftest import HEAVY, Lab, Watched

from mlctl.cli.app import app, app_for

COMMANDS = (
    "run", "prepare", "train", "export", "quantize", "eval", "prune", "distill", "serve", "plan", "show", "init",
    "inspect", "bench", "schema", "verify", "gc", "doctor", "generate", "debug", "debug parity",
    "token", "token create", "token list",
)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("", 2),
        ("nonsense", 2),
        ("schema", 0),
        ("doctor", 0),
        ("plan tiny.yaml", 0),
        ("plan whole.yaml --json", 0),
        ("plan whole.yaml train.epochs=4", 0),
        ("plan whole.yaml train.epohcs=4", 2),
        ("show whole.yaml", 0),
        ("show whole.yaml --resolved", 0),
        ("verify whole.yaml", 0),
        ("gc whole.yaml tiny.yaml", 0),
        ("run tiny.yaml", 0),
        ("run whole.yaml", 0),
        ("eval whole.yaml --json", 0),
    ],
)
def test_no_command_loads_what_it_does_not_need(finished_labs: Lab, line: str, code: int) -> None:
    result = finished_labs.watched(line)
    assert result.code == code, result.err
    assert result.modules & HEAVY == set()


def test_data_are_prepared_without_torch(lab: Lab) -> None:
    assert lab.watched("prepare tiny.yaml").modules & {"torch", "sklearn", "onnxruntime"} == set()


def test_integers_are_made_without_torch(finished_lab: Lab) -> None:
    result = finished_lab.watched("quantize whole.yaml --set quantize.fresh={}")
    assert result.code == 0, result.err
    assert result.modules & {"torch", "sklearn", "openvino"} == set()
    assert "onnxruntime" in result.modules


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_reads_no_settings(finished_labs: Lab, command: str) -> None:
    result = finished_labs.watched(f"{command} --help")
    assert result.code == 0, result.err
    assert result.modules & {*HEAVY, "pydantic", "yaml"} == set()
    assert result.out.startswith("Usage: mlctl ")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_the_same_whether_others_are_read_or_not(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command.split(), "--help"]
    pages = []
    for each in (app, app_for(words)):
        each(words, prog_name="mlctl", standalone_mode=False)
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1] != ""
    assert len(app_for(words).registered_commands) + len(app_for(words).registered_groups) == 1


def test_all_commands_are_read_where_none_is_named() -> None:
    assert all(app_for(words) is app for words in ([], ["--help"], ["nonsense"], ["--version", "serve"]))


def test_the_version_needs_no_parser(finished_labs: Lab) -> None:
    result = finished_labs.watched("--version")
    assert result.out.startswith("mlctl ")
    assert result.modules & {"typer", "click", "pydantic", "rich", "yaml"} == set()


def mlctl_modules(result: Watched) -> set[str]:
    return {name for name in result.modules if name.startswith("mlctl")}


def test_the_version_loads_two_modules_of_ours(finished_labs: Lab) -> None:
    assert mlctl_modules(finished_labs.watched("--version")) == {"mlctl", "mlctl.cli", "mlctl.cli.main"}


def test_the_package_itself_imports_nothing() -> None:
    """Its version is read by build tools, which have none of its dependencies."""
    code = "import sys; before = set(sys.modules); import mlctl; print(sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "['mlctl']\n"
