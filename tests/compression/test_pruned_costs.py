"""What a selection promises is what the cut network has, for the project's networks."""

import numpy as np
import pytest
import torch
from torch import nn

from mlctl.compression.pruning.dependencies import dependencies, structure_of
from mlctl.compression.pruning.importance import Kind, importance
from mlctl.compression.pruning.removal_order import Scope
from mlctl.compression.pruning.selection import KeptCost, KeptUnits, Rules, Target, select, whole
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.structure import restructured
from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    GruSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    ResNetSettings,
    TransformerSettings,
    VitSettings,
)
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.tasks.next_token import NextToken
from mlctl.training.batches import Batch

torch.set_num_threads(1)  # these networks are too small to be shared

IMAGE, TEXT, CLASSES = (1, 8, 8), (6,), 7
NETWORKS: dict[str, NetworkSettings] = {
    "mlp": MlpSettings(hidden=(9, 8)),
    "cnn": CnnSettings(channels=(8, 12)),
    "resnet": ResNetSettings(depth=8, stem="cifar", width=8),
    "vit": VitSettings(patch=4, width=16, layers=2, heads=4),
    "lstm": LstmSettings(embedding=8, hidden=10, layers=2),
    "gru, tied": GruSettings(embedding=8, hidden=8, layers=1, tied=True),
    "transformer": TransformerSettings(width=16, layers=2, heads=4, tied=True),
}


def is_text(name: str) -> bool:
    return name.startswith(("lstm", "gru", "transformer"))


def small(name: str) -> tuple[CompleteModel, Batch]:
    """A network, and a batch of four samples."""
    torch.manual_seed(0)
    if is_text(name):
        network = build(NETWORKS[name], (TEXT,), CLASSES)
        tokens = torch.randint(CLASSES, (4, *TEXT))
        return CompleteModel(network, (None,), nn.Identity()), Batch((tokens,), tokens)
    network = build(NETWORKS[name], (IMAGE,), CLASSES)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            # Fresh residual blocks end in a scale of zero, behind which nothing has a gradient.
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return (
        CompleteModel(network, (InputScaling(),), nn.Softmax(1)),
        Batch((torch.rand(4, *IMAGE),), torch.randint(CLASSES, (4,))),
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_counts_are_those_of_the_cut_network(name: str, scope: Scope) -> None:
    targets: tuple[Target, ...] = (
        KeptUnits(0.5, {}),
        KeptCost("parameters", 0.6, 0),
        KeptCost("multiply-adds", 0.6, 0),
    )
    for wanted in targets:
        model, batch = small(name)
        network = model.network.eval()
        found = dependencies(network, (batch.inputs[0][:2],))
        costs = UnitCosts(found, network)
        original = whole(costs)
        assert original.parameters == sum(each.numel() for each in network.parameters())
        scores = importance("l2", model, found, CrossEntropy()).scores
        if isinstance(wanted, KeptUnits):
            target: Target = KeptUnits(wanted.share, original.units)
        else:
            total = original.parameters if wanted.counted == "parameters" else original.multiply_adds
            target = KeptCost(wanted.counted, wanted.share, total)
        chosen = select(costs, scores, target, Rules(scope))
        assert chosen.removed
        restructured(network, structure_of(network, found, chosen.kept))
        assert sum(each.numel() for each in network.parameters()) == chosen.parameters
        again = UnitCosts(dependencies(network, (batch.inputs[0][:2],)), network).cost()
        assert again.multiply_adds == chosen.multiply_adds
        with torch.no_grad():
            assert model.raw_outputs(*batch.inputs).isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["l1", "l2", "lamp", "taylor", "fisher", "activation"])
def test_every_group_of_every_network_has_scores(name: str, kind: Kind) -> None:
    model, batch = small(name)
    found = dependencies(model.network.eval(), (batch.inputs[0][:2],))
    objective = NextToken(np.ones(CLASSES, np.int32)) if is_text(name) else CrossEntropy()
    scored = importance(kind, model, found, objective, [batch])
    assert not scored.unscored
    for group in found.groups:
        scores = scored.scores[group.name]
        assert scores.shape == (group.count,)
        assert scores.min() >= 0
        assert len(np.unique(scores)) > 1, "all units are worth the same"
