"""One image file becomes an array: the same for preparing data and for serving."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mlctl.data.quiet_libtiff import silence_libtiff

MODES: Final = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: some of Pillow's other formats start programs, as EPS does."""

READERS: Final = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
"""What reads them: Pillow would otherwise import the readers of all formats at the first file that needs one of these.
"""

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED: Final = (5, 6, 7, 8)
_DEEP_MODES: Final = ("I", "F")


class NoImage(ValueError):
    """Why bytes are no image that can be read; the text follows on the file's name."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's remarks on odd files are nobody's, but an image that is too large to be safe is refused."""
    silence_libtiff()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(source: Path | bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The image file at a path, or of these bytes, as uint8 of `shape` (channels, height, width).

    It is turned upright as its EXIF orientation says, converted to gray or RGB, and resized to the wanted height and
    width: Pillow's antialiased BILINEAR, with a box reduction first where the image is more than three times as large.
    To be called within `without_warnings`. Raises NoImage for what cannot be decoded, has more than 8 bits per channel,
    or more pixels than Pillow thinks safe.
    """
    channels, height, width = shape
    mode = MODES[channels]
    try:
        with _stream(source) as stream, Image.open(stream, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise NoImage(f"the image has more than 8 bits per channel (mode {image.mode})")
            if image.format == "JPEG":
                is_turned = _orientation(image) in _TURNED
                image.draft(mode, (height, width) if is_turned else (width, height))
            image.load()
            # Asked only now, since TIFF files are turned upright when they are loaded.
            converted = _upright(_converted(image, mode), _orientation(image))
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
            values = np.asarray(converted, dtype=np.uint8)
    except NoImage:
        raise
    except _BOMBS as bomb:
        most = Image.MAX_IMAGE_PIXELS
        raise NoImage(f"the image has more than {most} pixels, which is not safe to read") from bomb
    except _DAMAGED as error:
        raise NoImage(f"the image cannot be decoded: {_first_line(error)}") from error
    return np.ascontiguousarray(values.reshape(height, width, channels).transpose(2, 0, 1))


def _stream(source: Path | bytes) -> BinaryIO:
    # Never a path: Pillow 12 maps some TIFF files from their paths, and scrambles those that it has to turn.
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


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
