"""Small sets in the formats of the real ones, for the recipes whose data are too large for a test."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_FASHION = ("prepare.split.files.train=small/train-*", "prepare.split.files.test=small/t10k-*")

SMALL_SOURCES: Mapping[str, tuple[str, ...]] = {
    "fashion-mnist": _FASHION,
    "fashion-mnist-gpu": _FASHION,
    "cifar10-cnn": (
        "prepare.split.files.train=small/cifar.tar.gz!*/data_batch_*.bin",
        "prepare.split.files.test=small/cifar.tar.gz!*/test_batch.bin",
    ),
    "text8-transformer": ("prepare.source=small/text8.zip!text8",),
    "text-lstm": ("prepare.source=small/*.py",),
}
"""By recipe, what names the small sets in place of the real ones."""

WORDS = ("def", "class", "return", "self", "value", "for", "in", "import", "None", "True")


def coloured_images(count: int, shape: tuple[int, int, int], seed: int) -> tuple[Pixels, Pixels]:
    """Noise [N, *shape] with a bright band that says the class, and the classes [N] from 0 to 9, all alike often."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = random.integers(0, 90, (count, *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 3] += 150
    return images, labels


def write_fashion(folder: Path) -> None:
    """A set of the MNIST family: IDX files of 28 x 28 pixels (yann.lecun.com/exdb/mnist, "the IDX file format")."""
    for part, count, seed in (("train", 200, 0), ("t10k", 60, 1)):
        images, labels = coloured_images(count, (1, 28, 28), seed)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">II", 0x801, count) + labels.tobytes())
        )


def write_cifar(archive: Path) -> None:
    """An archive as CIFAR-10's binary version: records of a label and 3 x 32 x 32 pixels, plane by plane."""
    with tarfile.open(archive, "w:gz") as tar:
        for name, seed in (*((f"data_batch_{number}.bin", number) for number in range(1, 6)), ("test_batch.bin", 9)):
            images, labels = coloured_images(60, (3, 32, 32), seed)
            records = np.concatenate([labels[:, None], images.reshape(60, -1)], axis=1).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(records)
            tar.addfile(member, io.BytesIO(records))


def write_text8(archive: Path) -> None:
    """An archive as text8's: one file without a suffix, small letters and spaces."""
    random = np.random.default_rng(0)
    words = ("anarchism", "originated", "as", "a", "term", "of", "abuse", "first", "used", "against")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("text8", " " + " ".join(random.choice(words, 6_000).tolist()))


def write_sources(folder: Path) -> None:
    """Modules of something like Python."""
    random = np.random.default_rng(0)
    for number in range(3):
        lines = (" ".join(random.choice(WORDS, 6).tolist()) for _ in range(300))
        (folder / f"module_{number}.py").write_text("\n".join(lines) + "\n")


def write_small_sets(folder: Path) -> None:
    """All of them, in a folder `small` beside the recipes in `folder`."""
    small = folder / "small"
    small.mkdir()
    write_fashion(small)
    write_cifar(small / "cifar.tar.gz")
    write_text8(small / "text8.zip")
    write_sources(small)
