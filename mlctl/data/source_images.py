"""Files of images, as a kind of source."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading, wanted_pixels
from mlctl.data.source_kind import SourceKind
from mlctl.errors import DataError
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class ImageFiles(SourceKind):
    """Images that Pillow decodes, each in a folder that is called as its class."""

    name = "files of images"
    endings = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
    folders = True

    def placed(self, origins: Sequence[Origin]) -> tuple[Origin, ...]:
        """Each with its class: the folder that it lies in, or the first one below a folder that is named as a whole.

        In an archive, folders that hold all of its images are no classes.
        """
        depths = _depths(origins)
        return tuple(_labelled(each, depths.get(each.listed_in, 0)) for each in origins)

    def empty_folders(self, origins: Sequence[Origin]) -> tuple[str, ...]:
        """Class folders without an image, in folders that are named as a whole and stand on this disk."""
        filled: dict[str, set[str]] = {}
        for each in origins:
            if each.listed_in and each.inner is not None and not each.alias:
                filled.setdefault(each.listed_in, set()).add(each.inner.parts[0])
        return tuple(
            str(folder)
            for listed, names in sorted(filled.items())
            for folder in sorted(Path(listed).iterdir())
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in names
        )

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Pixels of every image, and its class."""
        from mlctl.data.images import open_images

        return open_images(origins, wanted_pixels(reading, settings, origins[0], self.name), classes)


def _depths(origins: Sequence[Origin]) -> dict[str, int]:
    """How many folders of every archive lie around its class folders."""
    parents: dict[str, list[tuple[str, ...]]] = {}
    for each in origins:
        if each.listed_in and each.alias and each.inner is not None:
            parents.setdefault(each.listed_in, []).append(each.inner.parent.parts)
    return {archive: _depth(folders) for archive, folders in parents.items()}


def _depth(folders: Sequence[tuple[str, ...]]) -> int:
    lowest, highest = min(folders), max(folders)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(lowest, highest, strict=False)))
    return max(0, min(common, *(len(each) - 1 for each in folders)))


def _labelled(origin: Origin, depth: int) -> Origin:
    place: PurePath = origin.inner or origin.path
    folders = place.parent.parts
    if not folders:
        raise DataError(
            "the image lies outside the class folders",
            where=origin.name,
            next=f"give every class its own folder: {PurePath(origin.listed_in or 'folder').name}/CLASS/{place.name}",
        )
    return replace(origin, label=folders[depth] if origin.listed_in else folders[-1])
