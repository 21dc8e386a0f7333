"""The networks that a recipe can name, and what each can be told."""

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

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


class ResNetSettings(Settings):
    """Residual networks (He et al. 2016) for images."""

    arch: Literal["resnet"] = "resnet"
    """Convolutions with shortcuts."""

    depth: Literal[8, 14, 18, 20, 26, 32, 34, 38, 44, 50] = 18
    """Layers. 18, 34 and 50 have four stages of `width`, twice, four and eight times as many channels; the others, of
    6n + 2 layers, three stages of `width`, twice and four times as many."""

    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar` begins with a 3x3 convolution that keeps the image's size, `imagenet` with a 7x7 one and pooling that
    leave a quarter of each side."""

    width: Count | None = None
    """Channels of the first stage: 64 for depths 18, 34 and 50, and 16 for the others, unless this says otherwise."""

    dropout: Fraction = 0.0
    """Share of features that each training step leaves out before the linear layer."""


class VitSettings(Settings):
    """Vision transformers (Dosovitskiy et al. 2021): pre-norm attention over patches of an image."""

    arch: Literal["vit"] = "vit"
    """A transformer for images."""

    patch: Count = 4
    """Height and width of a patch; both sides of the image are multiples of it."""

    width: Count = 192
    """Width of every patch's vector; a multiple of `heads`."""

    layers: Count = 6
    """Blocks of attention and two dense layers."""

    heads: Count = 3
    """Heads of every attention."""

    expansion: Count = 4
    """Width of the hidden dense layer, as a multiple of `width`."""

    pool: Literal["mean", "token"] = "mean"
    """What is classified: the mean of all patches, or an extra token's vector."""

    dropout: Fraction = 0.0
    """Share of values that each training step leaves out behind every attention and dense layer."""

    @model_validator(mode="after")
    def _divides_by_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of the {self.heads} heads")
        return self


class RecurrentSettings(Settings):
    """What both recurrent networks have."""

    embedding: Count = 128
    """Width of every token's vector."""

    hidden: Count = 256
    """Width of every layer's state."""

    layers: Count = 2
    """Recurrent layers, one over the other."""

    tied: Flag = False
    """Let the last layer share the embedding's weights; `hidden` is then `embedding`."""

    dropout: Fraction = 0.0
    """Share of values that each training step leaves out between layers and before the last."""

    @model_validator(mode="after")
    def _can_be_tied(self) -> Self:
        if self.tied and self.hidden != self.embedding:
            raise ValueError(f"tied weights need hidden {self.hidden} and embedding {self.embedding} to be equal")
        return self


class LstmSettings(RecurrentSettings):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) over tokens."""

    arch: Literal["lstm"] = "lstm"
    """A recurrent network with memory cells."""


class GruSettings(RecurrentSettings):
    """Gated recurrent units (Cho et al. 2014) over tokens."""

    arch: Literal["gru"] = "gru"
    """A recurrent network with gates alone."""


class TransformerSettings(Settings):
    """A decoder over tokens: pre-norm blocks, rotary positions (Su et al. 2021), causal attention."""

    arch: Literal["transformer"] = "transformer"
    """A transformer for text."""

    width: Count = 256
    """Width of every token's vector; a multiple of twice `heads`."""

    layers: Count = 4
    """Blocks of attention and two dense layers."""

    heads: Count = 4
    """Heads of every attention."""

    expansion: Count = 4
    """Width of the hidden dense layer, as a multiple of `width`."""

    tied: Flag = True
    """Let the last layer share the embedding's weights."""

    dropout: Fraction = 0.0
    """Share of values that each training step leaves out behind every attention and dense layer."""

    @model_validator(mode="after")
    def _divides_by_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads")
        return self


STATEFUL: Final = ("lstm", "gru", "transformer")
"""Networks over tokens that can go on from where they stopped, so that text can be generated token by token."""


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
    | Annotated[ResNetSettings, Tag("resnet")]
    | Annotated[VitSettings, Tag("vit")]
    | Annotated[LstmSettings, Tag("lstm")]
    | Annotated[GruSettings, Tag("gru")]
    | Annotated[TransformerSettings, Tag("transformer")]
    | Annotated[CustomSettings, Tag(CUSTOM)],
    Discriminator(_arch),
]
"""The one table of networks that a recipe can name; `mlctl.models.table` builds each."""
