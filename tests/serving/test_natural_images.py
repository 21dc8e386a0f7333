"""Files of images, sent in place of tensors."""

import io
import subprocess
import sys
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from natural_models import natural
from PIL import Image

from mlctl.runtime.running import Port
from mlctl.serving.natural.values import Natural
from mlctl.serving.refusals import Malformed, WrongMedia
from mlctl.serving.signature import InputMeaning, Meaning

OUTPUT = (Port("scores", "float32", (None, 3)),)
PIXELS = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def pictures(dtype: str, *told: InputMeaning, channels: int = 1, task: str = "image-classification") -> Natural:
    return natural((Port("image", dtype, (None, channels, 4, 6)),), OUTPUT, Meaning(task, inputs=told))


def file_of(pixels: npt.NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pictures("uint8", InputMeaning("image", (), 255.0)), PIXELS),
        (pictures("uint8", InputMeaning("image", (), 16.0)), PIXELS),
        (pictures("uint8", InputMeaning("image", ("p",) * 24, 16.0)), np.rint(PIXELS / 255 * 16)),
        (pictures("float32", InputMeaning("image", ("p",) * 24, 16.0)), (PIXELS / 255 * 16).astype(np.float32)),
        (pictures("float32", InputMeaning("", (), 255.0)), PIXELS.astype(np.float32)),
        (pictures("uint8", task=""), PIXELS),
        (pictures("float32", task=""), (PIXELS / 255).astype(np.float32)),
        (pictures("float16", task=""), (PIXELS / 255).astype(np.float16)),
    ],
    ids=["files", "files-16", "columns-u8", "columns", "scale-255", "foreign-u8", "foreign", "foreign-half"],
)
def test_pixels_become_what_the_model_takes(found: Natural, expected: npt.NDArray[Any]) -> None:
    (given,) = found.from_image(file_of(PIXELS))
    assert given.shape == (1, 1, 4, 6)
    assert given.flags.c_contiguous
    # One rounding to the dtype; the order of multiplication and division may move the last bit before it.
    np.testing.assert_allclose(given[0, 0].astype(np.float64), expected.astype(np.float64), rtol=2e-7)


def test_colours_come_plane_by_plane() -> None:
    colours = np.random.default_rng(2).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    (given,) = pictures("uint8", channels=3).from_image(file_of(colours))
    assert given[0].transpose(1, 2, 0).tolist() == colours.tolist()


@pytest.mark.parametrize(
    ("shape", "dtype", "task"),
    [
        ((None, 2, 4, 6), "float32", ""),
        ((None, 4, 6, 3), "uint8", ""),
        ((None, 1, None, None), "float32", ""),
        ((None, 24), "float32", "image-classification"),
        ((None, 1, 4, 6), "int64", ""),
        ((None, 1, 4, 6), "float32", "embedding"),
    ],
)
def test_a_model_of_something_else_takes_no_images(shape: tuple[int | None, ...], dtype: str, task: str) -> None:
    found = natural((Port("x", dtype, shape),), OUTPUT, Meaning(task))
    assert "image" not in found.kinds
    with pytest.raises(WrongMedia, match="takes no images; it takes tensors"):
        found.from_image(file_of(PIXELS))


@pytest.mark.parametrize("body", [b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"{}"])
def test_what_is_no_image_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="the image cannot be decoded"):
        pictures("uint8").from_image(body)


def test_an_image_of_more_pixels_than_are_safe_is_refused_before_it_is_decoded() -> None:
    """A PNG of a few bytes may say that it is as large as it likes: 20,000 x 20,000 of them here."""
    bomb = bytearray(file_of(PIXELS))
    place = bomb.index(b"IHDR")
    bomb[place + 4 : place + 12] = (20_000).to_bytes(4, "big") * 2
    bomb[place + 17 : place + 21] = zlib.crc32(bytes(bomb[place : place + 17])).to_bytes(4, "big")
    with pytest.raises(Malformed, match="pixels, which is not safe to read"):
        pictures("uint8").from_image(bytes(bomb))


@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=4)), max_size=4))
def test_whatever_is_sent_is_an_image_or_refused(kind: str, changes: list[tuple[int, bytes]]) -> None:
    body = bytearray(file_of(PIXELS, kind))
    for place, values in changes:
        start = place % len(body)
        body[start : start + len(values)] = values
    with suppress(Malformed):
        (given,) = pictures("uint8").from_image(bytes(body))
        assert (given.shape, given.dtype) == ((1, 1, 4, 6), np.dtype(np.uint8))


def test_pillow_is_loaded_by_the_first_image_and_tokenizers_by_no_model_without_text() -> None:
    code = (
        "import sys\n"
        "from mlctl.runtime.running import Port\n"
        "from mlctl.serving.meaning import meaning_of\n"
        "from mlctl.serving.natural.inputs import natural_for\n"
        "from mlctl.serving.signature import Meaning, Signature\n"
        "ports = (Port('x', 'float32', (None, 1, 4, 6)),), (Port('y', 'float32', (None, 3)),)\n"
        "found = natural_for(Signature('m', 1, 'onnxruntime', *ports, Meaning()))\n"
        "heavy = {'PIL', 'tokenizers', 'onnx', 'pydantic', 'pyarrow', 'torch', 'email', 'http'}\n"
        "print(sorted(found.kinds), sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['image'] []\n"
