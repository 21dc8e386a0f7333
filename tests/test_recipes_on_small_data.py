"""Recipes whose data are not shipped run to their ends on small data in the real formats."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import pytest
from conftest import Lab
from small_sets import SMALL_SOURCES, write_small_sets

import mlctl

RECIPES: Final = Path(mlctl.__file__).parents[1] / "recipes"
QUICK: Final = ("train.epochs=1", "train.batch_size=32", "eval.latency.rounds=10", "gates=[]")
SMALLER: Final[Mapping[str, tuple[str, ...]]] = {
    "fashion-mnist": ("train.model.channels=[8, 8]",),
    "fashion-mnist-gpu": ("train.model.depth=8", "train.model.width=8"),
    "cifar10-cnn": ("train.model.channels=[8, 8]",),
    "text8-transformer": ("prepare.context=32", "train.model={arch: transformer, width: 32, layers: 2, heads: 2}"),
    "text-lstm": ("prepare.context=32", "train.model={arch: lstm, hidden: 32}"),
}
"""What makes each recipe small; its data, its method and its steps stay."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("recipes")
    write_small_sets(folder)
    for name in SMALLER:
        shutil.copyfile(RECIPES / f"{name}.yaml", folder / f"{name}.yaml")
    return Lab(folder)


@pytest.mark.parametrize("name", SMALLER)
def test_a_recipe_runs_from_raw_files_to_integers_that_answer_alike(lab: Lab, name: str) -> None:
    settings = " ".join(f"--set '{each}'" for each in (*SMALL_SOURCES[name], *SMALLER[name], *QUICK))
    verdict = lab.json(f"run {name}.yaml {settings} --threads 1")
    assert [step["outcome"] for step in verdict["steps"]] == ["ran"] * 5
    figures = {
        (step["step"], each["model"], each["figure"]): each["value"]
        for step in verdict["steps"]
        for each in step["figures"]
    }
    assert figures["export", None, "parity"] <= 1e-4
    assert figures["quantize", None, "quantized_nodes"] > 0
    graph = lab.artifact(name, "quantize") / "model.onnx"
    rows = np.load(next((lab.artifact(name, "prepare") / "test").glob("[it]*[es].npy")))
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    taken = rows[:3] if rows.ndim > 1 else rows[: 3 * 20].reshape(3, 20).astype(np.int64)
    (answers,) = session.run(None, {given.name: taken})
    assert answers.shape[0] == 3
    assert np.isfinite(answers).all()
