"""Small trainings of networks with zeros; `python sparse_fits.py FOLDER NAME` kills them.

The finetuning NAME of LIVES runs once undisturbed and once through one SIGKILL after another: in the middle of a step,
of a validation, and of writing a checkpoint. Both leave their weights in FOLDER.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from small_fits import (
    CNN,
    CPU,
    LSTM,
    MLP,
    TRANSFORMER,
    Classification,
    NextToken,
    Outcome,
    is_text,
    patterns,
    small_model,
    small_settings,
    text,
)
from small_lives import Countdown, in_child, status
from torch import Tensor

from mlctl.compression.pruning.gradual import zeros_held
from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.compression.pruning.sparsity import WeightPruning, asked_share, prune_weights
from mlctl.events import silent
from mlctl.models.complete import CompleteModel
from mlctl.recipe.networks import CnnSettings, NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule, MuonSettings, SgdSettings
from mlctl.recipe.prune import PatternPruning, UnstructuredPruning
from mlctl.training.learner import AfterStep
from mlctl.training.loop import fit

FAST: Final = AdamWSettings(lr=3e-2, weight_decay=0.1)
"""Moves a weight by about 0.03 a step: no zero would stay one, and weights change their order."""

GRADUAL: Final = UnstructuredPruning.model_validate({"method": "unstructured", "ratio": 0.7, "gradual": True})
BY_LAYER: Final = GRADUAL.model_copy(update={"scope": "layer"})
AT_ONCE: Final = UnstructuredPruning(method="unstructured", ratio=0.6)
PATTERN: Final = PatternPruning(method="n-of-m", keep=1, group=2)
WIDE: Final = CnnSettings(channels=(4, 8))

LIVES: Final[dict[str, tuple[NetworkSettings, WeightPruning, dict[str, Any]]]] = {
    "at once": (CNN, AT_ONCE, {"optimizer": FAST, "keep_best": "loss"}),
    "at once, with a mean": (CNN, AT_ONCE, {"optimizer": FAST, "ema": 0.9}),
    "pattern": (WIDE, PATTERN, {"optimizer": SgdSettings(lr=0.1, momentum=0.9), "l1": 1e-3}),
    "gradual": (CNN, GRADUAL, {"optimizer": FAST, "schedule": CosineSchedule(warmup=0.2), "keep_best": None}),
    "gradual by layer": (MLP, BY_LAYER, {"optimizer": MuonSettings(), "keep_best": None}),
    "gradual lstm": (LSTM, GRADUAL, {"optimizer": FAST, "clip_norm": 1.0, "keep_best": None}),
    "gradual transformer": (TRANSFORMER, BY_LAYER, {"optimizer": FAST, "keep_best": None}),
}
"""Networks, what is pruned, and how it is finetuned."""


def cut_model(network: NetworkSettings, pruning: WeightPruning) -> CompleteModel:
    """The network as the finetuning of this pruning begins with it."""
    model = small_model(network)
    if not (isinstance(pruning, UnstructuredPruning) and pruning.gradual):
        prune_weights(model, pruning, asked_share(pruning))
    return model


def finetune(
    resume: Path,
    model: CompleteModel,
    pruning: WeightPruning,
    objective: Any = None,
    watch: AfterStep | None = None,
    **changes: Any,
) -> Outcome:
    """Train `model` further; `watch` is called after every step, when zeros have been made and kept."""
    network = model.network
    is_texts = not len(model.preparations)
    data = (text(41 * 6 + 1, 1), text(13, 2)) if is_texts else (patterns(41, 1), patterns(9, 2))
    with zeros_held(network, pruning) as keep:

        def after_step(done: float) -> None:
            keep(done)
            if watch:
                watch(done)

        fitted = fit(
            model,
            *data,
            objective or (NextToken() if is_texts else Classification()),
            small_settings(**{"epochs": 4, **changes}),
            seed=7,
            device=CPU,
            resume=resume,
            tell=silent,
            after_step=after_step,
        )
    return Outcome(fitted, {name: each.clone() for name, each in network.state_dict().items()})


def zeros_of(model: CompleteModel) -> dict[str, Tensor]:
    """Where weights are zero, by name."""
    return {each.name: (each.parameter.detach() == 0).clone() for each in prunable_weights(model.network).weights}


def live(folder: Path, name: str, kill: str, resume: str) -> None:
    """Finetune as far as the kill lets it, with a checkpoint after every step."""
    network, pruning, changes = LIVES[name]
    where, _, number = kill.partition(" ")
    objective: Any = NextToken() if is_text(network) else Classification()
    if where == "fsync":
        os.fsync = Countdown(os.fsync, int(number))  # type: ignore[assignment]
    elif where in ("loss", "totals"):
        setattr(objective, where, Countdown(getattr(objective, where), int(number)))
    model = cut_model(network, pruning)
    outcome = finetune(folder / resume, model, pruning, objective, checkpoint_seconds=1e-9, **changes)
    save_file(outcome.weights, folder / f"{resume}.safetensors")


def main(folder: Path, name: str) -> None:
    """Both lives."""
    torch.set_num_threads(1)
    assert status(in_child(lambda: live(folder, name, "never", "whole"))) == 0
    # Checkpoints are written aside, as many as the machine has time for: only the first is sure to be.
    for kill in ("loss 3", "fsync 1", "totals 1", "loss 4"):
        assert status(in_child(lambda kill=kill: live(folder, name, kill, "killed"))) < 0, kill  # type: ignore[misc]
    assert status(in_child(lambda: live(folder, name, "never", "killed"))) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
