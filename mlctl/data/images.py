"""Image files in class folders, as batches."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlctl.data.batches import UNASSIGNED, BadRow, Batch, Source, SourceInput
from mlctl.data.classes import ClassNumbers
from mlctl.data.image_decoding import MODES, NoImage, decoded, without_warnings
from mlctl.data.origin import Origin
from mlctl.data.reading import Pixels
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS

BATCH_BYTES = 4 << 20

Decoded: TypeAlias = "NDArray[np.uint8] | BadRow"


def open_images(origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers) -> Source:
    """The images in the order of `origins`. Raises DataError for a shape of neither 1 nor 3 channels."""
    if pixels.shape[0] not in MODES:
        what = f"image files are read with 1 or 3 channels, not {pixels.shape[0]}"
        raise DataError(what, where=origins[0].name, next="mend the first number of the shape")
    return Source(image_batches(origins, pixels, classes), (SourceInput.of(pixels, pixels.shape),))


def image_batches(origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers) -> Iterator[Batch]:
    """The images in the order of `origins`, decoded on as many threads as pyarrow uses (`pa.cpu_count()`).

    Each is as `decoded` gives it; one that it refuses is a bad row.
    """
    size = max(1, BATCH_BYTES // prod(pixels.shape))
    position = 0
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        for start in range(0, len(origins), size):
            chosen = origins[start : start + size]
            with without_warnings():
                images = list(pool.map(lambda origin: decode(origin, pixels.shape), chosen))
            position += sum(origin.path.stat().st_size for origin in chosen)
            yield _batch(images, chosen, pixels.shape, classes, first_row=start, position=position)


def decode(origin: Origin, shape: tuple[int, int, int]) -> Decoded:
    """The image as uint8 of `shape` (channels, height, width), or why it is a bad row."""
    try:
        return decoded(origin.path, shape)
    except NoImage as reason:
        return BadRow(origin.name, None, str(reason))


def _batch(
    found: Sequence[Decoded],
    chosen: Sequence[Origin],
    shape: tuple[int, int, int],
    classes: ClassNumbers,
    *,
    first_row: int,
    position: int,
) -> Batch:
    good = [index for index, each in enumerate(found) if not isinstance(each, BadRow)]
    images = [each for each in found if not isinstance(each, BadRow)]
    splits = [UNASSIGNED if (split := chosen[index].split) is None else SPLITS.index(split) for index in good]
    return Batch(
        inputs=(np.array(images, dtype=np.uint8).reshape(-1, *shape),),
        targets=classes.of(chosen[index].label or "" for index in good),
        splits=np.array(splits, dtype=np.int8),
        rows=first_row + np.array(good, dtype=np.int64),
        bad=tuple(each for each in found if isinstance(each, BadRow)),
        position=position,
    )
