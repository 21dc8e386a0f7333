"""What a pruning's method needs, made from the step's data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlctl.compression.pruning.dependencies import dependencies
from mlctl.compression.pruning.layer_costs import LayerCost, layer_costs
from mlctl.compression.quantization.calibration_rows import calibration_rows
from mlctl.data.prepared import PreparedData
from mlctl.events import Tell
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.recipe.prune import PatternPruning, PruneCommon, StructuredPruning, UnstructuredPruning
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.stages.cutting import Cut, Cutting
from mlctl.stages.cutting_units import Seen, UnitCutting
from mlctl.stages.cutting_weights import WeightCutting
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch, Batches, Samples
from mlctl.training.trained import example_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ground:
    """What cuts are made on: the model's config, its data, and how it is judged."""

    config: ModelConfig
    data: PreparedData
    objective: Objective
    device: "torch.device"
    batch_size: int
    seed: int

    def costs(self, config: ModelConfig, model: CompleteModel) -> dict[str, LayerCost]:
        """What every layer of a network takes, by its name before any cut."""
        model = model.to("cpu").eval()
        example = example_of(self.data.split("train").inputs, config)
        found = dependencies(model.network, model.preprocess(*example))
        return layer_costs(model.network, found, config.structure)

    def samples(self, count: int, name: str = "train") -> Samples:
        """So many rows of a split, every class with its share where there are classes."""
        split = self.data.split(name)
        has_labels = VOCABULARY[self.config.task].has_labels
        chosen = calibration_rows(len(split.targets), count, self.seed, split.targets if has_labels else None)
        return Samples(split.inputs, split.targets, split.rows).chosen(chosen)

    def batches(self, count: int) -> Iterator[Batch]:
        """Those rows on the device, in order."""
        return Batches(self.samples(count), self.batch_size, self.device).in_order()


def cutting_of(settings: PruneCommon, ground: Ground, latency: Callable[[Cut], float], tell: Tell) -> Cutting:
    """What makes the cuts that the settings ask for.

    `latency` gives that of a network as a graph, as a share of that of the network before any cut.
    """
    if isinstance(settings, StructuredPruning):
        example = example_of(ground.data.split("train").inputs, ground.config)
        batches = partial(ground.batches, settings.samples)
        return UnitCutting(settings, Seen(ground.objective, example, ground.device, batches, latency))
    assert isinstance(settings, UnstructuredPruning | PatternPruning)
    return WeightCutting(settings, partial(ground.samples, settings.samples), tell)
