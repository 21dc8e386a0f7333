"""Image files in class folders, as batches."""

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from mlctl.data.batches import UNASSIGNED, BadRow, Batch, Source, SourceInput
from mlctl.data.classes import ClassNumbers
from mlctl.data.origin import Origin
from mlctl.data.reading import Pixels
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS

BATCH_BYTES = 4 << 20
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: some of Pillow's other formats start programs, as EPS does."""

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)
_DEEP_MODES = ("I", "F")

Decoded: TypeAlias = "NDArray[np.uint8] | BadRow"


def open_images(origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers) -> Source:
    """The images in the order of `origins`. Raises DataError for a shape of neither 1 nor 3 channels."""
    if pixels.shape[0] not in MODES:
        what = f"image files are read with 1 or 3 channels, not {pixels.shape[0]}"
        raise DataError(what, where=origins[0].name, next="mend the first number of the shape")
    return Source(image_batches(origins, pixels, classes), (SourceInput.of(pixels, pixels.shape),))


def image_batches(origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers) -> Iterator[Batch]:
    """The images in the order of `origins`, decoded on as many threads as pyarrow uses (`pa.cpu_count()`).

    Each is turned upright as its EXIF orientation says, converted to gray or RGB, and resized to the wanted height and
    width: Pillow's antialiased BILINEAR, with a box reduction first where the image is more than three times as large.
    An image that cannot be decoded, has more than 8 bits per channel, or more pixels than Pillow thinks safe is a bad
    row.
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
                decoded = list(pool.map(lambda origin: decode(origin, pixels.shape), chosen))
            position += sum(origin.path.stat().st_size for origin in chosen)
            yield _batch(decoded, chosen, pixels.shape, classes, first_row=start, position=position)


def decode(origin: Origin, shape: tuple[int, int, int]) -> Decoded:
    """The image as uint8 of `shape` (channels, height, width), or why it is a bad row."""
    channels, height, width = shape
    mode = MODES[channels]
    try:
        with Image.open(origin.path, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                return BadRow(origin.name, None, f"the image has more than 8 bits per channel (mode {image.mode})")
            if image.format == "JPEG":
                is_turned = _orientation(image) in _TURNED
                image.draft(mode, (height, width) if is_turned else (width, height))
            image.load()
            # Asked only now, since TIFF files are turned upright when they are loaded.
            converted = _upright(_converted(image, mode), _orientation(image))
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
            values = np.asarray(converted, dtype=np.uint8)
    except _BOMBS:
        return BadRow(
            origin.name, None, f"the image has more than {Image.MAX_IMAGE_PIXELS} pixels, which is not safe to read"
        )
    except _DAMAGED as error:
        return BadRow(origin.name, None, f"the image cannot be decoded: {_first_line(error)}")
    return np.ascontiguousarray(values.reshape(height, width, channels).transpose(2, 0, 1))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, EXIF's tag 274; 1, which is upright, where that cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return found if isinstance(found, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


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
