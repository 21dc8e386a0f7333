"""What a recipe can say about making a network smaller by taking parts out."""

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from mlctl.recipe.base import Count, Flag, Names, PositiveFraction, Settings
from mlctl.recipe.train import FinetuneSettings

TARGETS: Final = ("ratio", "parameters", "flops", "latency")


class PruneCommon(Settings):
    """What every method has."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose network is pruned; the nearest one above, unless this names another."""

    protect: Names = ()
    """Layers that stay whole, as globs over their names."""

    steps: Count = 1
    """Prune in so many equal steps, with finetuning after each."""

    finetune: FinetuneSettings | None = FinetuneSettings()
    """How the network learns again; null leaves it as cut, with batch normalization's figures taken anew."""

    samples: Count = 512
    """Rows of the train split that an importance looks at, where it looks at rows."""

    @property
    def fitting(self) -> FinetuneSettings:
        """How the network is trained and judged, also where it does not learn again."""
        return self.finetune or FinetuneSettings()


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

    layers: PositiveFraction | None = None
    """Share of the blocks with a shortcut around them to take out whole, before any unit: those that change least what
    passes through them (Men et al. 2024)."""

    importance: Literal["l1", "l2", "batch-norm", "taylor", "fisher", "lamp", "activation"] = "l2"
    """What makes a unit worth keeping: the length of its weights (`l1`, `l2`; `lamp`, Lee et al. 2021, as a share of
    those that stay), the scale of its batch normalization (Liu et al. 2017), what the loss would lose without it
    (`taylor`, Molchanov et al. 2019; `fisher`, Theis et al. 2018), or how large its answers are (`activation`)."""

    scope: Literal["global", "layer"] = "global"
    """Compare units over the whole network, or within each layer."""

    round_to: Count = 1
    """Keep a multiple of this many units in every layer."""

    @property
    def has_target(self) -> bool:
        """Whether units are to go, and not blocks alone."""
        return any(getattr(self, key) is not None for key in TARGETS)

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        named = [key for key in TARGETS if getattr(self, key) is not None]
        if len(named) > 1 or not (named or self.layers):
            raise ValueError(
                f"exactly one of ratio, parameters, flops and latency says how much; here: {', '.join(named) or 'none'}"
            )
        return self


class UnstructuredPruning(PruneCommon):
    """Single weights become zero; the shapes stay."""

    method: Literal["unstructured"]
    """Zeros where weights were smallest."""

    ratio: PositiveFraction
    """Share of weights to zero, of those that can be pruned: no embeddings, biases or normalizations."""

    importance: Literal["magnitude", "wanda"] = "magnitude"
    """What makes a weight worth keeping: its size, or its size times how large its inputs are (`wanda`, Sun et al.
    2023)."""

    scope: Literal["global", "layer"] = "global"
    """Compare weights over the whole network, or within each layer; `wanda` always compares those of one output."""

    gradual: Flag = False
    """Raise the ratio step by step over the first three quarters of the finetuning (Zhu & Gupta 2017), and keep the
    last epoch's weights, whatever `finetune.keep_best` says: they alone have all the zeros."""

    @model_validator(mode="after")
    def _can_be_gradual(self) -> Self:
        if not self.gradual:
            return self
        if self.finetune is None or self.steps > 1:
            raise ValueError("gradual needs a finetuning, and steps: 1")
        if self.finetune.ema is not None or self.importance != "magnitude":
            raise ValueError("gradual goes with importance: magnitude, and without finetune.ema")
        if self.finetune.early_stopping:
            raise ValueError("gradual needs all epochs: take finetune.early_stopping out")
        return self


class PatternPruning(PruneCommon):
    """In every group of M weights only N are kept."""

    method: Literal["n-of-m"]
    """A pattern that some accelerators compute fast."""

    keep: Count = 2
    """Weights kept in every group."""

    group: Annotated[int, Field(ge=2)] = 4
    """Weights in a group."""

    importance: Literal["magnitude", "wanda"] = "magnitude"
    """What makes a weight worth keeping, as for `unstructured`."""

    @model_validator(mode="after")
    def _keeps_some(self) -> Self:
        if self.keep >= self.group:
            raise ValueError(f"keep {self.keep} of {self.group} weights leaves all of them")
        return self


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
