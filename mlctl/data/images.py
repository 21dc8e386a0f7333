"""Image files in class folders, as batches."""

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mlctl.data.batches import UNASSIGNED, BadRow, Batch
from mlctl.data.classes import ClassNumbers
from mlctl.data.origins import Origin
from mlctl.data.reading import Pixels
from mlctl.recipe.prepare import SPLITS

BATCH_BYTES = 4 << 20
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: some of Pillow's other formats start programs, as EPS does."""

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DEEP_MODES = ("I", "F")

Decoded: TypeAlias = "NDArray[np.uint8] | BadRow"


def image_batches(origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers) -> Iterator[Batch]:
    """The images in the order of `origins`, decoded on as many threads as pyarrow uses (`pa.cpu_count()`).

    Each is converted to gray or RGB and resized to the wanted height and width: Pillow's antialiased BILINEAR, with a
    box reduction first where the image is more than three times as large. An image that cannot be decoded, has more
    than 8 bits per channel, or more pixels than Pillow thinks safe is a bad row.
    """
    size = max(1, BATCH_BYTES // prod(pixels.shape))
    position = 0
    Image.init()  # here, so that threads do not load Pillow's formats side by side
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        for start in range(0, len(origins), size):
            chosen = origins[start : start + size]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                decoded = list(pool.map(lambda origin: decode(origin.path, pixels.shape), chosen))
            position += sum(origin.path.stat().st_size for origin in chosen)
            yield _batch(decoded, chosen, pixels.shape, classes, first_row=start, position=position)


def decode(path: Path, shape: tuple[int, int, int]) -> Decoded:
    """The image as uint8 of `shape` (channels, height, width), or why it is a bad row."""
    channels, height, width = shape
    mode = MODES[channels]
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                return BadRow(path, None, f"the image has more than 8 bits per channel (mode {image.mode})")
            image.draft(mode, (width, height))
            converted = _converted(image, mode)
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
            values = np.asarray(converted, dtype=np.uint8)
    except _BOMBS:
        return BadRow(path, None, f"the image has more than {Image.MAX_IMAGE_PIXELS} pixels, which is not safe to read")
    except _DAMAGED as error:
        return BadRow(path, None, f"the image cannot be decoded: {_first_line(error)}")
    return np.ascontiguousarray(values.reshape(height, width, channels).transpose(2, 0, 1))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _first_line(error: Exception) -> str:
    """The message without the file's name, which stands before it anyway."""
    text = "this is no image of a known format" if isinstance(error, UnidentifiedImageError) else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _batch(
    decoded: Sequence[Decoded],
    chosen: Sequence[Origin],
    shape: tuple[int, int, int],
    classes: ClassNumbers,
    *,
    first_row: int,
    position: int,
) -> Batch:
    good = [index for index, each in enumerate(decoded) if not isinstance(each, BadRow)]
    images = [each for each in decoded if not isinstance(each, BadRow)]
    splits = [UNASSIGNED if (split := chosen[index].split) is None else SPLITS.index(split) for index in good]
    return Batch(
        inputs=(np.array(images, dtype=np.uint8).reshape(-1, *shape),),
        targets=classes.of(chosen[index].label or "" for index in good),
        splits=np.array(splits, dtype=np.int8),
        rows=first_row + np.array(good, dtype=np.int64),
        bad=tuple(each for each in decoded if isinstance(each, BadRow)),
        position=position,
    )
