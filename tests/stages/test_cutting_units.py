"""Cuts, where the network learns elsewhere than on the host."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.files import ModelConfig, ModelInput
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings
from mlctl.recipe.prune import StructuredPruning
from mlctl.stages.cutting import Cut
from mlctl.stages.cutting_units import Seen, UnitCutting
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Batch

ELSEWHERE = torch.device("meta")
"""A device that is not the host, and that every machine has; nothing on it has a value."""
NETWORK = CnnSettings(channels=(8, 12))


class RowsWanted(Exception):
    """Somebody looks at rows."""


def refusing() -> list[Batch]:
    raise RowsWanted


@pytest.mark.parametrize(
    "settings",
    [
        StructuredPruning(ratio=0.5, scope="layer"),
        StructuredPruning(ratio=0.5, importance="activation"),
        StructuredPruning(ratio=0.5, importance="taylor"),
    ],
    ids=lambda settings: settings.importance,
)
def test_rows_are_met_where_they_lie(settings: StructuredPruning) -> None:
    config = ModelConfig(
        "image-classification", NETWORK, (ModelInput("image", "uint8", (1, 4, 4)),), 2, (InputScaling(16.0),),
        InputScaling(), ("left", "right"),
    )  # fmt: skip
    model = CompleteModel(build(NETWORK, ((1, 4, 4),), 2), (InputScaling(16.0),), nn.Softmax(1))

    def batches() -> Iterator[Batch]:
        assert {each.device for each in model.parameters()} == {ELSEWHERE}
        return iter(refusing())

    example = (torch.zeros(2, 1, 4, 4, dtype=torch.uint8),)
    seen = Seen(CrossEntropy(), example, ELSEWHERE, batches, lambda cut: 1.0)
    with pytest.raises(RowsWanted):
        UnitCutting(settings, seen).cut(Cut(config, model), 1.0)
