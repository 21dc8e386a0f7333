"""What `mlctl doctor` finds out."""

import os
from pathlib import Path

from conftest import Lab

from mlctl import __version__
from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.stages.diagnosis import diagnose, diagnosis_lines


def lines(store: Path) -> dict[str, str]:
    """The diagnosis by the first word of its lines."""
    return {line.split()[0]: line for line in diagnosis_lines(diagnose(store))}


def test_the_machine_and_the_libraries_are_named(tmp_path: Path) -> None:
    found = diagnose(tmp_path / "store")
    assert found.mlctl == __version__
    assert found.machine.processor.logical_cores == len(os.sched_getaffinity(0))
    assert {"torch", "onnx", "onnxruntime", "numpy"} <= set(found.versions)
    text = lines(tmp_path / "store")
    assert f"torch {found.versions['torch']}" in text["libraries"]
    assert f"{found.machine.processor.logical_cores} for this process" in text["cores"]
    chosen = choose_scheme("auto", "auto", found.machine.processor.instruction_sets)
    assert found.integers == chosen
    assert chosen.why in text["integers"]


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    store = tmp_path / "not" / "yet"
    found = diagnose(store).store
    assert (found.exists, found.artifacts, found.bytes, found.unfinished, found.damaged) == (False, 0, 0, 0, ())
    assert found.free_bytes > 0
    assert "not there yet" in lines(store)["store"]
    assert not store.parent.exists()


def test_artifacts_and_their_bytes_are_counted(finished_lab: Lab) -> None:
    found = diagnose(finished_lab.store).store
    folders = list((finished_lab.store / "artifacts").rglob("manifest.json"))
    files = [
        file
        for folder in folders
        for file in folder.parent.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    ]
    assert found.artifacts == len(folders) == 6
    assert found.bytes == sum(file.stat().st_size for file in files)
    assert (found.exists, found.unfinished, found.damaged) == (True, 0, ())


def test_a_file_of_another_size_is_damage(finished_lab: Lab) -> None:
    weights = finished_lab.artifact("tiny", "train") / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    found = diagnose(finished_lab.store).store
    assert found.artifacts == 6
    (damage,) = found.damaged
    assert "model.safetensors" in damage
    assert damage in lines(finished_lab.store)["damaged"]
