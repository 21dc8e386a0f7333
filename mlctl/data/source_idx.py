"""The MNIST family's IDX files, as a kind of source."""

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

_NAME = re.compile(r".*(images[.-]idx3|labels[.-]idx1)-ubyte(\.gz|\.zst)?", re.IGNORECASE | re.DOTALL)


class IdxFiles(SourceKind):
    """Gray images of one size, and a file of labels for each file of images, plain, gzip or zstd."""

    name = "IDX files"
    endings = ("images-idx3-ubyte", "labels-idx1-ubyte", "images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    folders = True

    def recognizes(self, name: str) -> bool:
        """Whether the name is one of the family's."""
        return _NAME.fullmatch(name) is not None

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Images in the order of their files, each with its label."""
        from mlctl.data.idx import open_idx

        return open_idx(origins, wanted_pixels(reading, settings, origins[0], self.name), classes)
