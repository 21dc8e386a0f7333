"""`mlctl token`, as a person types it."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMAND, HEAVY, Lab, new_lab

from mlctl.serving.guards.guard import guard_of
from mlctl.serving.refusals import Forbidden, Unauthorized


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with three tokens, not to be changed."""
    lab = new_lab(tmp_path_factory.mktemp("keeper"))
    for line in ("ci --model digits --model texts --rate 2.5 --expires 30", "ops --admin", "everybody"):
        assert lab(f"token create {line} --tokens tokens.json").code == 0
    return lab


def test_a_token_is_all_that_is_printed_and_opens_what_it_was_made_for(lab: Lab) -> None:
    made = lab("token create ci --model digits --tokens tokens.json")
    assert (made.code, made.err, made.out.count("\n")) == (0, "", 1)
    file = lab.folder / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    header = f"Bearer {made.out.strip()}"
    assert guard_of(file).admit(header, "infer", "digits").name == "ci"
    with pytest.raises(Forbidden):
        guard_of(file).admit(header, "infer", "other")
    assert lab("token revoke ci --tokens tokens.json").code == 0
    with pytest.raises(Unauthorized):
        guard_of(file).admit(header, "infer", "digits")


@pytest.mark.parametrize(("is_full", "code"), [(True, 5), (False, 141)])
def test_a_token_that_nobody_saw_is_taken_back(keeper: Lab, is_full: bool, code: int) -> None:
    before = (keeper.folder / "tokens.json").read_bytes()
    if is_full:
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, stdout = os.pipe()
        os.close(reading)
    command = [sys.executable, "-c", COMMAND, "token", "create", "unseen", "--tokens", "tokens.json"]
    result = subprocess.run(
        command, cwd=keeper.folder, env=dict(keeper.environment()), stdout=stdout, stderr=subprocess.PIPE, text=True
    )
    os.close(stdout)
    assert (result.returncode, result.stderr == "") == (code, not is_full), result.stderr
    assert (keeper.folder / "tokens.json").read_bytes() == before


def test_the_list_shows_what_each_may_do_and_nothing_to_do_it_with(keeper: Lab) -> None:
    result = keeper("token list --tokens tokens.json")
    assert result.code == 0
    rows = [re.split(" {2,}", line) for line in result.out.splitlines()]
    assert rows[0] == ["name", "begins with", "may use", "a second", "made", "expires"]
    known = json.loads((keeper.folder / "tokens.json").read_text())["tokens"]
    assert rows[1:] == [
        ["ci", f"{known[0]['prefix']}…", "digits, texts", "2.5", known[0]["made"][:10], known[0]["expires"][:10]],
        ["ops", f"{known[1]['prefix']}…", "everything", "any", known[1]["made"][:10], "never"],
        ["everybody", f"{known[2]['prefix']}…", "all models", "any", known[2]["made"][:10], "never"],
    ]
    assert not any(each["sha256"] in result.out for each in known)


def test_the_list_is_also_one_json_document(keeper: Lab) -> None:
    found = keeper.json("token list --tokens tokens.json")
    assert [(each["name"], each["models"], each["is_admin"], each["rate"], each["is_expired"]) for each in found] == [
        ("ci", ["digits", "texts"], False, 2.5, False),
        ("ops", [], True, None, False),
        ("everybody", [], False, None, False),
    ]
    assert [each["expires"] is None for each in found] == [False, True, True]
    assert not any("sha256" in each for each in found)


def test_the_environment_may_name_the_file(keeper: Lab) -> None:
    result = keeper("token list", MLCTL_TOKENS="tokens.json")
    assert (result.code, result.out.count("\n")) == (0, 4)


def test_nothing_heavy_is_loaded(keeper: Lab) -> None:
    result = keeper.watched("token list --tokens tokens.json")
    assert result.modules & {*HEAVY, "pydantic", "yaml"} == set()


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("token list", 2, "Missing option '--tokens'"),
        ("token list --tokens nowhere.json", 2, "nowhere.json: the file of tokens cannot be read"),
        ("token list --tokens rows.csv", 3, "rows.csv: this is no file of tokens"),
        ("token create ci --tokens rows.csv", 3, "rows.csv: this is no file of tokens"),
        ("token create ci --tokens tokens.json", 2, "there is a token of the name 'ci'"),
        ("token create ci --tokens no/where.json", 2, "there is no such folder"),
        ("token create 'a b' --tokens tokens.json", 2, "'a b' is no name for a token"),
        ("token create x --admin --model digits --tokens tokens.json", 2, "an admin token reaches every model"),
        ("token create x --rate 0 --tokens tokens.json", 2, "a rate of 0.0 serves nobody"),
        ("token create x --expires 0 --tokens tokens.json", 2, "Invalid value for '--expires'"),
        ("token revoke x --tokens tokens.json", 2, "there is no token of the name 'x'"),
        ("token revoke x --tokens nowhere.json", 2, "nowhere.json: the file of tokens cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_a_next_step(keeper: Lab, line: str, code: int, message: str) -> None:
    before = files(keeper.folder)
    result = keeper(line)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "  next: " in result.err
    assert files(keeper.folder) == before


def files(folder: Path) -> dict[str, bytes]:
    """What lies there."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
