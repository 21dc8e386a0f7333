"""A flipped byte is found by name and mended on request."""

import json
from pathlib import Path

import pytest
from conftest import Lab


def flip(path: Path, position: int) -> None:
    """Turn one bit of the file around; its size stays."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("step", "file", "position"),
    [("prepare", "train/features.npy", -1), ("prepare", "data.json", 0), ("train", "model.safetensors", 200)],
)
def test_verification_names_a_flipped_byte(finished_lab: Lab, step: str, file: str, position: int) -> None:
    assert finished_lab("verify tiny.yaml").code == 0
    damaged = finished_lab.artifact("tiny", step) / file
    flip(damaged, position)
    result = finished_lab("verify tiny.yaml")
    assert result.code == 3
    line, total = [line for line in result.out.splitlines() if not line.endswith("whole")]
    assert total == ".mlctl: 6 artifacts, 1 damaged"
    assert line.startswith(step)
    assert file in line
    assert "has other bytes than were written" in line


def test_the_step_that_would_read_it_refuses_and_force_mends_it(finished_lab: Lab) -> None:
    before = finished_lab.bytes_of()
    flip(finished_lab.artifact("tiny", "prepare") / "train" / "features.npy", -1)
    refused = finished_lab("run tiny.yaml train.epochs=3 --threads 1")
    assert refused.code == 3
    assert "train/features.npy: " in refused.err
    assert "has other bytes than were written" in refused.err
    assert "--force prepare" in refused.err
    assert "Traceback" not in refused.err
    mended = finished_lab("run tiny.yaml --force prepare --threads 1")
    assert mended.code == 0, mended.err
    assert mended.err.splitlines()[0] == "prepare  run    forced"
    assert "warning" not in mended.err
    assert finished_lab.bytes_of() == before
    assert finished_lab("verify tiny.yaml").code == 0


@pytest.mark.parametrize("text", ["", "{}", "not JSON", '{"format": 1}'])
def test_a_damaged_manifest_is_told_by_plan_run_show_and_verify(finished_lab: Lab, text: str) -> None:
    manifest = finished_lab.artifact("tiny", "prepare") / "manifest.json"
    manifest.write_text(text)
    assert finished_lab("verify tiny.yaml").code == 3
    assert "manifest" in finished_lab("plan tiny.yaml").out
    refused = finished_lab("run tiny.yaml")
    assert refused.code == 3
    assert "manifest.json" in refused.err
    assert "--force" in refused.err


def test_a_missing_file_is_told_before_anything_runs(finished_lab: Lab) -> None:
    weights = finished_lab.artifact("tiny", "train") / "model.safetensors"
    weights.unlink()
    assert "train    run    damaged: " in finished_lab("plan tiny.yaml").out
    refused = finished_lab("run tiny.yaml")
    assert refused.code == 3
    assert "model.safetensors" in refused.err
    mended = finished_lab("run tiny.yaml --force train --threads 1")
    assert mended.code == 0, mended.err
    assert weights.exists()


def test_damage_in_json_has_its_own_document(finished_lab: Lab) -> None:
    flip(finished_lab.artifact("tiny", "train") / "config.json", 0)
    result = finished_lab("verify tiny.yaml --json")
    assert result.code == 3
    checks = [check for check in json.loads(result.out) if check["damage"]]
    assert [check["step"] for check in checks] == ["train"]
