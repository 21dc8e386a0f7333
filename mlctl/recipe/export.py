"""What a recipe can say about the ONNX graph."""

from typing import Annotated

from pydantic import Field

from mlctl.recipe.base import Positive, Settings


class ExportSettings(Settings):
    """A trained model becomes an ONNX graph that is compared with it."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose model is exported; the nearest one above, unless this names another."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    """Version of the ONNX operator set."""

    tolerance: Positive = 1.0e-4
    """Largest difference to torch on held-out samples, absolute or relative to the answer, whichever is smaller;
    above it the step's gate fails (exit 21)."""
