"""The networks that a recipe can name, and what each can be told."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from mlctl.recipe.base import Count, Flag, Fraction, Settings

Activation: TypeAlias = Literal["relu", "gelu", "tanh"]


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


NetworkSettings: TypeAlias = Annotated[LinearSettings | MlpSettings | CnnSettings, Field(discriminator="arch")]
"""The one table of networks that a recipe can name; `mlctl.models.table` builds each."""
