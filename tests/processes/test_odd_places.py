"""Folders, files and words that are not what a command hopes for: a documented exit code and no traceback."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COMMAND, Finished, Lab, finished

from mlctl.cli.boundary import run

DOCUMENTED = {0, 2, 3, 4, 5, 20, 21, 22, 23, 24, 25, 130, 143}
RECIPE_COMMANDS = ("run", "prepare", "train", "plan", "show", "verify", "gc")


def assert_is_answer(result: Finished) -> None:
    """A documented code; one message when it is not 0; never a traceback."""
    assert result.code in DOCUMENTED, result.err
    assert "Traceback" not in result.err
    assert "a bug in mlctl" not in result.err
    if result.code:
        assert "next: " in result.err


@pytest.fixture
def answer(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Finished]:
    """Runs a command in this process, in the lab's folder: for refusals that come before anything is computed."""

    def run_here(line: str) -> Finished:
        code = run(shlex.split(line))
        out, err = capsys.readouterr()
        return Finished(code, out, err)

    monkeypatch.chdir(lab.folder)
    for name in ("CI", "GITHUB_ACTIONS", "MLCTL_STORE"):
        monkeypatch.delenv(name, raising=False)
    return run_here


@pytest.mark.parametrize("command", sorted({*RECIPE_COMMANDS} - {"verify"}))
@pytest.mark.parametrize(
    "recipe", ["nowhere.yaml", "data", "rows.csv", "rows.csv/recipe.yaml", "binary.yaml", "empty.yaml", "loop.yaml"]
)
def test_a_recipe_that_is_none_is_a_usage_error(
    lab: Lab, answer: Callable[[str], Finished], command: str, recipe: str
) -> None:
    (lab.folder / "data").mkdir()
    (lab.folder / "binary.yaml").write_bytes(bytes(range(256)))
    (lab.folder / "empty.yaml").write_text("")
    (lab.folder / "loop.yaml").symlink_to("loop.yaml")
    result = answer(f"{command} {recipe}")
    assert_is_answer(result)
    assert result.code == 2
    assert recipe in result.err


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
@pytest.mark.parametrize("store", ["rows.csv", "rows.csv/store", "/proc/store", "/dev/null"])
def test_a_store_that_cannot_be_one_is_refused(answer: Callable[[str], Finished], command: str, store: str) -> None:
    result = answer(f"{command} tiny.yaml --store {store}")
    assert_is_answer(result)
    if command in ("run", "prepare", "train"):
        assert result.code == 5
        assert "--store" in result.err


@pytest.mark.parametrize("command", ["run", "plan", "show", "prepare"])
def test_data_that_is_not_there_is_a_data_error(lab: Lab, answer: Callable[[str], Finished], command: str) -> None:
    (lab.folder / "rows.csv").unlink()
    result = answer(f"{command} tiny.yaml")
    assert_is_answer(result)
    assert result.code == 3
    assert "rows.csv" in result.err


def test_planning_and_looking_make_no_store(lab: Lab) -> None:
    for line in ("plan tiny.yaml", "show tiny.yaml", "verify tiny.yaml", "gc tiny.yaml", "doctor", "schema"):
        result = lab(line)
        assert_is_answer(result)
        assert result.code == 0
    assert not lab.store.exists()


@pytest.mark.parametrize("line", ["run tiny.yaml --quiet", "train tiny.yaml --until train", "run tiny.yaml --until no"])
def test_options_that_cannot_be_are_usage_errors(lab: Lab, line: str) -> None:
    result = lab(f"{line} --force nothing")
    assert_is_answer(result)
    assert result.code == 2


def test_a_report_that_cannot_be_written_is_an_environment_error(finished_lab: Lab) -> None:
    result = finished_lab("run tiny.yaml --junit nowhere/report.xml")
    assert_is_answer(result)
    assert result.code == 5


@pytest.mark.parametrize("line", ["plan {folder}/tiny.yaml", "run {folder}/tiny.yaml", "plan tiny.yaml"])
def test_a_working_folder_that_is_gone_is_no_crash(finished_lab: Lab, tmp_path: Path, line: str) -> None:
    """A recipe that is named by its whole path does not need the folder at all."""
    (tmp_path / "gone").mkdir()
    leave = f"import os; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir({str(tmp_path / 'gone')!r}); "
    with finished_lab.start(line.format(folder=finished_lab.folder), code=leave + COMMAND) as process:
        result = finished(process)
    assert_is_answer(result)
    assert result.code == (0 if "{folder}" in line else 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_environment_error(lab: Lab) -> None:
    lab.folder.chmod(0o555)
    try:
        result = lab("run tiny.yaml")
    finally:
        lab.folder.chmod(0o755)
    assert_is_answer(result)
    assert result.code == 5


@pytest.mark.parametrize("bound", ["head -c 0", "head -n 1"])
def test_a_reader_that_goes_away_is_no_crash(finished_lab: Lab, bound: str) -> None:
    line = f'"{sys.executable}" -c "{COMMAND}" schema | {bound} > /dev/null; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(
        ["bash", "-c", line],
        cwd=finished_lab.folder,
        env=dict(finished_lab.environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 141)
    assert result.stderr == ""
