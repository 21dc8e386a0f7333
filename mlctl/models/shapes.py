"""What a network demands of the data's shapes."""

from math import prod

from mlctl.errors import StepFailed


def flat_width(arch: str, input_shapes: tuple[tuple[int, ...], ...]) -> int:
    """The number of values in a sample of the one input that a fully connected network takes.

    Shapes leave the batch dimension out. Raises StepFailed where there are more inputs, or a scalar.
    """
    if len(input_shapes) != 1 or not input_shapes[0]:
        raise StepFailed(
            f"{arch} takes one input of at least one axis, the data has {_listed(input_shapes)}",
            next="name one set of columns in `prepare`",
        )
    return prod(input_shapes[0])


def image_shape(arch: str, input_shapes: tuple[tuple[int, ...], ...]) -> tuple[int, int, int]:
    """Channels, height and width of the one image that a convolutional network takes.

    Raises StepFailed where the data is anything else.
    """
    if len(input_shapes) != 1 or len(input_shapes[0]) != 3:
        raise StepFailed(
            f"{arch} takes one image [channels, height, width], the data has {_listed(input_shapes)}",
            next="choose `model: {arch: mlp}` for columns of numbers, or give `prepare.image.shape`",
        )
    channels, height, width = input_shapes[0]
    return channels, height, width


def require_tokens(arch: str, input_shapes: tuple[tuple[int, ...], ...]) -> None:
    """Raise StepFailed unless a network over tokens is given one input, a row of tokens."""
    if len(input_shapes) != 1 or len(input_shapes[0]) != 1:
        raise StepFailed(
            f"{arch} takes one row of tokens, the data has {_listed(input_shapes)}",
            next="choose `model: {arch: mlp}` for columns of numbers, or `prepare.task: language-modeling` for text",
        )


def _listed(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes) or "no input"
