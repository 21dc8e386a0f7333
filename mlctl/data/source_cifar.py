"""The binary files of CIFAR-10 and CIFAR-100, as a kind of source."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading, wanted_pixels
from mlctl.data.source_kind import SourceKind
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers

_NAME = re.compile(r"(data_batch_\d+|test_batch|train|test)\.bin|(batches\.meta|(fine|coarse)_label_names)\.txt")


class CifarFiles(SourceKind):
    """Colour images of 32 x 32 pixels with their labels; the files of label names may be among them."""

    name = "CIFAR files"
    endings = ("data_batch_1.bin", "test_batch.bin", "train.bin", "test.bin", "batches.meta.txt")
    folders = True

    def recognizes(self, name: str) -> bool:
        """Whether the name is one of those that the data sets' authors gave."""
        return _NAME.fullmatch(name) is not None

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Images in the order of their files, each with its label."""
        from mlctl.data.cifar import open_cifar

        pixels = wanted_pixels(reading, settings, origins[0], self.name, columns=("fine", "coarse"))
        label = reading.target.column if reading.target else None
        return open_cifar(origins, pixels, label, classes)
