"""A file of an image in place of a tensor, read as `prepare` reads files of images."""

from typing import Final, Self

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Meaning, Signature

IMAGE_TASKS: Final = ("image-classification", "")
"""Of a graph that does not say what it is for, the shape tells."""
CHANNELS: Final = (1, 3)
_BRIGHTEST: Final = 255


class ImageFiles:
    """Images for the one input [B, C, H, W] of a model.

    Where the model learnt from files of images, or takes uint8 without saying more, pixels are as they are. Else they
    are scaled so that the brightest, 255, becomes the scale by which the graph divides, and rounded where the model
    takes whole numbers: 16 for a table whose pixels go from 0 to 16. A graph of another tool that takes floating-point
    numbers does not say how it scales, and is given 0 to 1.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: str, brightest: float | None) -> None:
        """`brightest` is what the pixel 255 becomes; None leaves pixels as they are."""
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._brightest = brightest

    @classmethod
    def of(cls, signature: Signature) -> Self | None:
        """Those of the model; None for one that takes no images."""
        if signature.meaning.task not in IMAGE_TASKS or len(signature.inputs) != 1:
            return None
        (port,) = signature.inputs
        is_numeric = port.dtype == "uint8" or port.dtype in ("float16", "float32", "float64")
        match port.shape:
            case (_, int(channels), int(height), int(width)) if is_numeric and channels in CHANNELS:
                return cls((channels, height, width), port.dtype, _brightest(port.dtype, signature.meaning))
        return None

    def inputs(self, body: bytes) -> Arrays:
        """The image of a file's bytes, [1, C, H, W]. Raises Malformed for what is none that `prepare` would read."""
        # Pillow takes tens of milliseconds to load, which a server whose callers send tensors need not wait for.
        from mlctl.data.image_decoding import NoImage, decoded, without_warnings

        try:
            with without_warnings():
                pixels = decoded(body, self._shape)
        except NoImage as reason:
            raise Malformed(str(reason)) from reason
        return (self._scaled(pixels)[np.newaxis],)

    def _scaled(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        if self._brightest is None:
            return pixels
        scaled = pixels * np.float64(self._brightest) / _BRIGHTEST
        return (np.rint(scaled) if self._dtype == np.uint8 else scaled).astype(self._dtype)


def _brightest(dtype: str, meaning: Meaning) -> float | None:
    """What the model takes for the brightest pixel; None for pixels as they are."""
    if not meaning.inputs:
        return None if dtype == "uint8" else 1.0
    told = meaning.inputs[0]
    if dtype == "uint8":
        return min(told.scale, _BRIGHTEST) if told.columns else None
    return told.scale
