"""Fashion-MNIST as the loop takes it, from Debian's package dataset-fashion-mnist."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlctl.training.batches import Samples

FASHION = Path("/usr/share/datasets/fashion-mnist")
VALIDATION = 1_000
"""Rows at the end of the training files that are validated on."""


def fashion_mnist(rows: int, folder: Path = FASHION) -> tuple[Samples, Samples, Samples]:
    """The first `rows` to train on, others to validate on, and the test rows: images uint8 [N, 1, 28, 28]."""
    images, labels = _both(folder, "train")
    first = min(rows, len(labels) - VALIDATION)
    train = Samples((images[:first],), labels[:first])
    validation = Samples((images[-VALIDATION:],), labels[-VALIDATION:])
    test_images, test_labels = _both(folder, "t10k")
    return train, validation, Samples((test_images,), test_labels)


def _both(folder: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    images = _idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    return images, _idx(folder / f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
