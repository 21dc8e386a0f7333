"""The networks that a recipe can name, and what each can be told."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from mlctl.recipe.base import Count, Flag, Fraction, Settings

Activation: TypeAlias = Literal["relu", "gelu", "tanh"]
Argument: TypeAlias = bool | int | float | str | tuple[bool | int | float | str, ...] | None
Arguments: TypeAlias = dict[str, Argument]


class LinearSettings(Settings):
    """One linear layer from all inputs to all outputs."""

    arch: Literal["linear"] = "linear"
    """A linear (or, with a classification task, a softmax) regression."""

    bias: Flag = True
    """Add a constant to every output."""


class MlpSettings(Settings):
    """Fully connected layers with an activation between them."""

    arch: Literal["mlp"] = "mlp"
    """A multi-layer perceptron."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (128,)
    """Width of every hidden layer, first to last."""

    activation: Activation = "relu"
    """What stands between two layers."""

    dropout: Fraction = 0.0
    """Share of hidden units that each training step leaves out."""


class CnnSettings(Settings):
    """Blocks of convolution, batch normalization, pooling and activation, then one linear layer."""

    arch: Literal["cnn"] = "cnn"
    """A plain convolutional network for images."""

    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64)
    """Channels of every block, first to last; every block but the last halves the image."""

    kernel: Literal[1, 3, 5, 7] = 3
    """Height and width of every convolution, padded so that the image keeps its size."""

    dropout: Fraction = 0.0
    """Share of features that each training step leaves out before the linear layer."""


class CustomSettings(Settings):
    """A network of the user's own, named by import path; whatever would import it needs `--allow-code`."""

    arch: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    """`package.module:Class`, beside the recipe or installed; called as `Class(input_shapes, outputs, **arguments)`."""

    arguments: Arguments | None = None
    """More keyword arguments for the class."""


CUSTOM: Final = "package.module:Class"


def _arch(value: Any) -> Any:
    # What is no mapping is refused by any of the classes, in the same words.
    arch = value.get("arch") if isinstance(value, dict) else getattr(value, "arch", "linear")
    return CUSTOM if isinstance(arch, str) and ":" in arch else arch


NetworkSettings: TypeAlias = Annotated[
    Annotated[LinearSettings, Tag("linear")]
    | Annotated[MlpSettings, Tag("mlp")]
    | Annotated[CnnSettings, Tag("cnn")]
    | Annotated[CustomSettings, Tag(CUSTOM)],
    Discriminator(_arch),
]
"""The one table of networks that a recipe can name; `mlctl.models.table` builds each."""
