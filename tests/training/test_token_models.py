"""Models whose input is tokens: what they are given, and what a user's own network has to answer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.errors import StepFailed
from mlctl.models.files import ModelConfig
from mlctl.recipe.networks import CustomSettings
from mlctl.tasks.language_modeling import LanguageModeling
from mlctl.training.own_networks import require_answers
from mlctl.training.trained import as_callable, example_of, fresh_model, model_config

DATA = DataDescription(
    task="language-modeling",
    inputs=(Field("tokens", "uint16", (5,)),),
    input_scaling=(Scaling(),),
    target=Field("next", "uint16", (5,)),
    target_scaling=Scaling(),
    labels=(),
    rows={"train": 3, "validation": 1, "test": 1},
    vocabulary=300,
    tokens={"train": 16, "validation": 6, "test": 6},
)
ROWS = (np.random.default_rng(0).integers(0, 300, (3, 5)).astype(np.uint16),)
SOURCE = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.embedding = nn.Embedding(outputs, 4)
        self.head = nn.Linear(4, outputs)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))
"""


def config_of(folder: Path, module: str, source: str) -> ModelConfig:
    (folder / f"{module}.py").write_text(source)
    return model_config(LanguageModeling(), CustomSettings(arch=f"{module}:Net"), DATA)


def test_tokens_are_given_as_int64_whatever_they_are_stored_in(tmp_path: Path) -> None:
    config = config_of(tmp_path, "right", SOURCE)
    assert [(each.dtype, each.holds_tokens) for each in config.inputs] == [("int64", True)]
    assert (config.outputs, config.labels) == (300, ())
    model = fresh_model(config, 3, tmp_path)
    require_answers(model, config, ROWS)
    found = as_callable(model, torch.device("cpu"))(ROWS)
    assert found.shape == (3, 5, 300)
    assert np.array_equal(found, as_callable(model, torch.device("cpu"))((ROWS[0].astype(np.int64),)))


def test_an_example_has_two_rows_even_of_one(tmp_path: Path) -> None:
    config = config_of(tmp_path, "example", SOURCE)
    for rows, expected in ((ROWS[0], ROWS[0][:2]), (ROWS[0][:1], ROWS[0][[0, 0]])):
        (example,) = example_of((rows,), config)
        assert example.dtype == torch.int64
        assert example.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("module", "change", "found"),
    [("pooled", ".mean(dim=1)", "[2, 300]"), ("narrow", "[..., :7]", "[2, 5, 7]"), ("short", "[:, 1:]", "[2, 4, 300]")],
)
def test_an_answer_that_is_not_for_every_token_is_refused(tmp_path: Path, module: str, change: str, found: str) -> None:
    config = config_of(tmp_path, module, SOURCE.replace("(tokens))", f"(tokens)){change}"))
    with pytest.raises(StepFailed) as refusal:
        require_answers(fresh_model(config, 3, tmp_path), config, ROWS)
    assert refusal.value.what == f"the network answers 2 rows with {found}, where [2, 5, 300] is wanted"
