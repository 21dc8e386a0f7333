"""`mlctl publish`, `models`, `promote` and `rollback`, as people type them."""

import json
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMAND, HEAVY, WHOLE, Lab, may_mount

FAILING = WHOLE.replace("accuracy - 0.5", "accuracy + 0.5")
OTHER = "--set train.epochs=2"
"""Another artifact."""


def names(lab: Lab, repository: str = "repo") -> list[str]:
    return [
        f"{model['name']}@{each['version']}" for model in lab.json(f"models {repository}") for each in model["versions"]
    ]


def test_a_model_is_published_promoted_and_taken_back(finished_lab: Lab) -> None:
    lab = finished_lab
    first = lab("publish whole.yaml --to repo --as production --as canary --threads 1 --quiet")
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[-3:] == ["published whole@1", "canary is whole@1", "production is whole@1"]
    same = lab("publish whole.yaml --to repo --threads 1 --quiet")
    assert same.out.splitlines()[-3:-2] == [
        "whole@1 is this very artifact; nothing new was published (`--again` would)"
    ]
    again = lab("publish whole.yaml --again --threads 1 --quiet", MLCTL_REPOSITORY="repo")
    assert again.out.splitlines()[-2:] == [
        "published whole@2",
        "the live version is whole@1; `mlctl promote whole@2` changes that",
    ]
    assert lab("promote whole@2 --repository repo").out == "production is whole@2, and was whole@1\n"
    assert lab("rollback whole", MLCTL_REPOSITORY="repo").out == "production is whole@1, and was whole@2\n"
    back = lab("rollback whole --repository repo")
    assert (back.code, back.out) == (2, "")
    assert "production pointed nowhere before version 1, so there is nothing to go back to" in back.err
    moved = json.loads(lab("promote whole@2 --as canary --repository repo --json").out)
    assert (moved["label"], moved["version"], moved["before"], moved["has_config"]) == ("canary", 2, 1, True)


def test_models_says_what_there_is_and_where_it_came_from(finished_lab: Lab) -> None:
    lab = finished_lab
    assert lab("publish whole.yaml --to repo --as production --threads 1 --quiet").code == 0
    fingerprint = lab.artifact("whole", "export").name
    headings, row = lab("models repo").out.splitlines()
    assert headings.split() == ["model", "labels", "published", "from", "verdict", "size"]
    assert row.split()[:2] == ["whole@1", "production"]
    assert f"export of whole.yaml, {fingerprint[:12]}" in row
    assert "2 of 2 gates passed" in row
    history = lab("models repo whole").out.splitlines()[2:]
    assert [line.split(": ")[1] for line in history] == ["published 1", "promoted 1 as production"]
    (model,) = lab.json("models repo")
    record = model["versions"][0]["record"]
    assert (record["fingerprint"], record["task"], record["labels"]) == (
        fingerprint,
        "image-classification",
        ["left", "right"],
    )
    assert record["golden"]["requests"] == 6  # all rows of its test split
    assert {each["name"] for each in record["figures"]} >= {"export.parity", "eval[export].accuracy"}
    assert [each["outcome"] for each in record["gates"]] == ["passed", "passed"]


def test_looking_and_a_published_version_load_nothing_heavy(finished_lab: Lab) -> None:
    assert finished_lab("publish whole.yaml --to repo --threads 1 --quiet").code == 0
    looked = finished_lab.watched("models repo")
    assert looked.code == 0
    assert looked.modules & (HEAVY | {"pydantic"}) == set()
    promoted = finished_lab.watched("promote whole@1 --repository repo")
    assert promoted.code == 0, promoted.err
    assert promoted.modules & {"torch", "onnx", "onnxruntime"} == set()


def test_publish_makes_what_is_not_there_and_says_so_in_one_document(lab: Lab) -> None:
    result = lab("publish whole.yaml --to repo --name digits --threads 1 --json")
    assert result.code == 0, result.err
    verdict = json.loads(result.out)
    assert [step["outcome"] for step in verdict["steps"]] == ["ran"] * 4
    assert verdict["command"] == "publish"
    assert verdict["published"]["name"] == "digits"
    assert (verdict["published"]["version"], verdict["published"]["is_new"]) == (1, True)
    assert (lab.folder / verdict["published"]["folder"] / "model.onnx").is_file()


def test_a_gate_that_fails_keeps_a_version_out_and_is_remembered(finished_lab: Lab) -> None:
    lab = finished_lab
    (lab.folder / "failing.yaml").write_text(FAILING)
    unknown = lab("publish failing.yaml --to repo --threads 1 --quiet")
    assert unknown.code == 20
    assert "whole: not published, because a gate has not passed" in unknown.err
    assert not (lab.folder / "repo").exists()
    assert lab("publish whole.yaml --to repo --threads 1 --quiet").code == 0
    refused = lab("publish failing.yaml --to repo --again --threads 1 --quiet --json")
    assert refused.code == 20
    assert json.loads(refused.out)["published"] is None
    assert names(lab) == ["whole@1"]
    note = lab("models repo").out.splitlines()[-1]
    assert note.startswith("whole: last refused ")
    assert "refused: export: failed: eval[export].accuracy >= eval[train].accuracy + 0.5 (" in note


def test_other_settings_are_another_version(finished_lab: Lab) -> None:
    for line in ("", OTHER, ""):
        assert finished_lab(f"publish whole.yaml --to repo --threads 1 --quiet {line}").code == 0
    assert names(finished_lab) == ["whole@1", "whole@2"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("publish whole.yaml", 2, "no repository of models is named"),
        ("publish whole.yaml --to repo --step train", 2, "train makes no ONNX model"),
        ("publish whole.yaml --to repo --step quantize", 2, "the recipe has no step 'quantize'"),
        ("publish tiny.yaml --to repo", 2, "no step above makes an ONNX model"),
        ("publish whole.yaml --to repo --as 3", 2, "'3' cannot be a label"),
        ("publish whole.yaml --to repo --name ../x", 2, "'../x' cannot be a model's name"),
        ("publish tiny.onnx --to repo", 2, "this is an ONNX file, and `publish` takes a recipe"),
        ("publish whole.yaml --to rows.csv", 2, "rows.csv: a file stands where a folder is needed"),
        ("publish whole.yaml --to rows.csv/models", 2, "rows.csv: a file stands where a folder is needed"),
        ("publish whole.yaml --to . --name rows.csv", 2, "rows.csv: a file stands where a folder is needed"),
        ("models rows.csv", 3, "rows.csv: the repository cannot be read"),
        ("promote whole@1 --repository rows.csv", 3, "there is no version 1 of 'whole' here"),
        ("rollback whole --repository rows.csv", 3, "there is no model 'whole' here"),
        ("models nowhere", 3, "the repository cannot be read"),
        ("models . nowhere", 3, "there is no model 'nowhere' here"),
        ("models . ..", 2, "'..' cannot be a model's name"),
        ("models", 2, "no repository of models is named"),
        ("promote whole@1", 2, "no repository of models is named"),
        ("promote whole --repository .", 2, "'whole' names no version"),
        ("promote whole@1 --repository .", 3, "there is no version 1 of 'whole' here"),
        ("rollback whole --repository .", 3, "there is no model 'whole' here"),
        ("rollback whole --repository . --as a/b", 2, "'a/b' cannot be a label"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(lab: Lab, line: str, code: int, message: str) -> None:
    before = sorted(lab.folder.iterdir())
    result = lab(line)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "  next: " in result.err
    assert sorted(lab.folder.iterdir()) == before


def test_models_shows_damage_and_what_was_put_there_by_hand(finished_lab: Lab) -> None:
    lab = finished_lab
    assert lab("publish whole.yaml --to repo --threads 1 --quiet").code == 0
    (lab.folder / "repo" / "plain" / "3").mkdir(parents=True)
    (lab.folder / "repo" / "plain" / "3" / "model.onnx").write_bytes(b"whatever")
    record = lab.folder / "repo" / "whole" / "1" / "mlctl.json"
    record.chmod(0o644)
    record.write_text(record.read_text().replace("whole.yaml", "other.yaml"))
    plain, whole = lab("models repo").out.splitlines()[1:]
    assert plain.split()[:2] == ["plain@3", "live"]
    assert "put there by hand" in plain
    assert "damaged: the version's record cannot be read (it is not the one that was written)" in whole
    result = lab("promote whole@1 --repository repo")
    assert result.code == 3
    assert "mlctl.json: " in result.err


def test_a_limit_on_the_size_of_files_is_a_full_disk_and_no_version(finished_lab: Lab) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        process = finished_lab.start("publish whole.yaml --to repo --threads 1 --quiet", PYTHONDONTWRITEBYTECODE="1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    _, err = process.communicate()
    assert process.returncode == 5, err
    assert "there is no room to write" in err
    assert finished_lab("models repo").out == "no versions\n"
    assert finished_lab("publish whole.yaml --to repo --threads 1 --quiet").code == 0
    assert names(finished_lab) == ["whole@1"]


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a small disk")
def test_a_full_disk_is_told_as_that_of_the_repository(finished_lab: Lab) -> None:
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(COMMAND)}"
    line = "publish whole.yaml --to small --again --threads 1 --quiet"
    script = f"""
        mkdir small && mount -t tmpfs -o size=20k tmpfs small || exit 99
        for number in 1 2 3 4; do {command} {line} 2> err || {{ code=$?; cat err >&2; exit $code; }}; done
    """
    result = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=finished_lab.folder,
        env={**finished_lab.environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 5, result.stderr
    assert result.stderr.startswith(
        "mlctl: small: there is no room to write\n  next: make room on the disk of this repo"
    )
    assert "mlctl gc" not in result.stderr


def test_the_version_in_the_repository_is_the_artifact_to_the_byte(finished_lab: Lab) -> None:
    assert finished_lab("publish whole.yaml --to repo --threads 1 --quiet").code == 0
    published = finished_lab.folder / "repo" / "whole" / "1" / "model.onnx"
    assert published.read_bytes() == (finished_lab.artifact("whole", "export") / "model.onnx").read_bytes()
    assert (Path(published.parent) / "labels.txt").read_text() == "left\nright\n"
