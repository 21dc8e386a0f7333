"""What a recipe can say about making a network smaller by taking parts out."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from mlctl.recipe.base import Count, Flag, Names, Positive, PositiveFraction, Settings
from mlctl.recipe.train import FinetuneSettings


class PruneCommon(Settings):
    """What every method has."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose network is pruned; the nearest one above, unless this names another."""

    protect: Names = ()
    """Layers that stay whole, as globs over their names."""

    steps: Count = 1
    """Prune in so many equal steps, with finetuning after each."""

    finetune: FinetuneSettings | None = FinetuneSettings()
    """How the network learns again; null leaves it as cut."""


class StructuredPruning(PruneCommon):
    """Channels, units, heads or layers are physically removed."""

    method: Literal["structured"] = "structured"
    """Smaller shapes, so smaller files and shorter latency."""

    ratio: PositiveFraction | None = None
    """Share of units to remove."""

    parameters: PositiveFraction | None = None
    """Share of parameters to keep."""

    flops: PositiveFraction | None = None
    """Share of arithmetic to keep."""

    latency: PositiveFraction | None = None
    """Share of the exported model's measured latency to keep; the result then depends on the machine."""

    importance: Literal["l1", "l2", "batch-norm", "taylor", "fisher", "lamp", "activation"] = "l2"
    """What makes a unit worth keeping."""

    scope: Literal["global", "layer"] = "global"
    """Compare units over the whole network, or within each layer."""

    round_to: Count = 1
    """Keep a multiple of this many units in every layer."""

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        named = [key for key in ("ratio", "parameters", "flops", "latency") if getattr(self, key) is not None]
        if len(named) != 1:
            raise ValueError(
                f"exactly one of ratio, parameters, flops and latency says how much; here: {', '.join(named) or 'none'}"
            )
        return self


class UnstructuredPruning(PruneCommon):
    """Single weights become zero; the shapes stay."""

    method: Literal["unstructured"]
    """Zeros where weights were smallest."""

    ratio: PositiveFraction
    """Share of weights to zero."""

    importance: Literal["magnitude", "wanda"] = "magnitude"
    """What makes a weight worth keeping."""

    gradual: Flag = False
    """Raise the ratio over the finetuning (Zhu & Gupta 2017)."""


class PatternPruning(PruneCommon):
    """In every group of M weights only N are kept."""

    method: Literal["n-of-m"]
    """A pattern that some accelerators compute fast."""

    keep: Count = 2
    """Weights kept in every group."""

    group: Annotated[int, Field(ge=2)] = 4
    """Weights in a group."""

    learning_rate_scale: Positive = 0.1
    """Learning rate of the finetuning, as a share of the training's."""


def _method(value: Any) -> str:
    method = value.get("method", "structured") if isinstance(value, dict) else getattr(value, "method", "structured")
    return str(method)


PruneSettings: TypeAlias = Annotated[
    Annotated[StructuredPruning, Tag("structured")]
    | Annotated[UnstructuredPruning, Tag("unstructured")]
    | Annotated[PatternPruning, Tag("n-of-m")],
    Discriminator(_method),
]
"""The one table of pruning methods."""
