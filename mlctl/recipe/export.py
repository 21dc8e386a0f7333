"""What a recipe can say about the ONNX graph."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from mlctl.recipe.base import Positive, Settings
from mlctl.recipe.quantize import Size
from mlctl.units import parse_size

PassName: TypeAlias = Literal["constant-folding", "fusion", "transformer-fusion", "dead-code", "shape-inference"]

STANDARD_PASSES: tuple[PassName, ...] = ("constant-folding", "fusion", "dead-code", "shape-inference")
"""The passes that leave a graph of ONNX's own operators, which every runtime knows."""

_MOST_IN_ONE_FILE = 1_900_000_000
"""Bytes of weights in one file; protobuf ends at 2^31, and the graph needs room too."""


def _fits_one_file(size: str) -> str:
    if parse_size(size) > _MOST_IN_ONE_FILE:
        raise ValueError("one ONNX file ends at 2 GiB; write 1.9GB or less")
    return size


def _has_no_pass_twice(passes: tuple[PassName, ...]) -> tuple[PassName, ...]:
    if len(set(passes)) < len(passes):
        raise ValueError("every pass is run once; one stands here twice")
    return passes


class ExportSettings(Settings):
    """A trained model becomes an ONNX graph that is compared with it."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose model is exported; the nearest one above, unless this names another. Or an ONNX file beside the
    recipe, `model.onnx`: it is checked, given the recipe's preprocessing and labels, and takes prepared rows from
    then on; it keeps its own operator set."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    """Version of the ONNX operator set."""

    passes: Annotated[tuple[PassName, ...], AfterValidator(_has_no_pass_twice)] = STANDARD_PASSES
    """What makes the graph plainer, in this order; a pass that moves an answer is undone. `transformer-fusion` writes
    operators that ONNX Runtime alone knows; the others keep to the ONNX standard."""

    external_data_above: Annotated[Size, AfterValidator(_fits_one_file)] = "1.5GB"
    """Weights that take more lie in `model.onnx.data`, beside the graph."""

    tolerance: Positive = 1.0e-4
    """Largest difference to the model's own answers on held-out samples, absolute or relative, whichever is smaller;
    above it the step's gate fails (exit 21)."""
