"""Which files a prepare step reads. Standard library only: the plan asks before anything heavy may load."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlctl.errors import DataError, UsageError
from mlctl.recipe.prepare import SPLITS, DataSettings, SplitByFiles

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
ARRAY_SUFFIXES = (".npz",)
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Origin:
    """One file that is read.

    `split` is set where the recipe names each split's files, `label` (the class folder's name) for image files.
    """

    path: Path
    split: str | None = None
    label: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether the file's name ends as an image's does."""
        return is_image(self.path)

    @property
    def holds_arrays(self) -> bool:
        """Whether the file's name ends as a file of arrays does."""
        return holds_arrays(self.path)


def holds_arrays(path: Path) -> bool:
    """Whether the file's name ends as a file of arrays does."""
    return path.name.lower().endswith(ARRAY_SUFFIXES)


def is_image(path: Path) -> bool:
    """Whether the file's name ends as an image's does."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def source_files(settings: DataSettings, base: Path) -> tuple[Path, ...]:
    """Every file that the step reads, each once, sorted; `base` is the folder of the recipe.

    Raises DataError for a source that matches nothing and UsageError for one over the network.
    """
    return tuple(sorted({origin.path for origin in origins(settings, base)}))


def origins(settings: DataSettings, base: Path) -> tuple[Origin, ...]:
    """Every file in the order of reading: by split where splits have their own files, then by path.

    Raises what `source_files` raises, and DataError where two splits share a file or tables and images are mixed.
    """
    if isinstance(settings.split, SplitByFiles):
        files = settings.split.files
        named = tuple(zip(SPLITS, (files.train, files.validation or (), files.test), strict=True))
        found = tuple(each for split, patterns in named for each in _expand(patterns, base, split))
        _check_disjoint(found)
    else:
        found = tuple(_expand(settings.source or (), base, None))
    _check_one_kind(found)
    return found


def _expand(patterns: Iterable[str], base: Path, split: str | None) -> list[Origin]:
    found = {origin.path: origin for pattern in patterns for origin in _match(pattern, base, split)}
    return [found[path] for path in sorted(found)]


def _match(pattern: str, base: Path, split: str | None) -> Iterator[Origin]:
    if "://" in pattern:
        raise UsageError(
            f"{pattern}: sources over the network are not built yet", next="download the file and name its path"
        )
    exact = base / pattern
    paths = [exact] if exact.exists() else sorted(_glob(pattern, base))
    if not paths:
        raise DataError("no file matches this source", where=exact, next="mend the path; it is read beside the recipe")
    for path in paths:
        if path.is_dir():
            yield from (Origin(image, split, label) for label, image in class_images(path))
        else:
            yield Origin(_known(path), split, path.parent.name if is_image(path) else None)


def _glob(pattern: str, base: Path) -> Iterator[Path]:
    anchor = Path(pattern).anchor
    start, relative = (Path(anchor), pattern.removeprefix(anchor)) if anchor else (base, pattern)
    shows_hidden = Path(pattern).name.startswith(".")
    return (path for path in start.glob(relative) if shows_hidden or not path.name.startswith("."))


def _known(path: Path) -> Path:
    if is_image(path) or path.name.lower().endswith((*TABLE_SUFFIXES, *ARRAY_SUFFIXES)):
        return path
    raise DataError(
        f"a source of the kind {path.suffix or 'without a suffix'!r} cannot be read",
        where=path,
        next=f"give a table ({', '.join(TABLE_SUFFIXES)}), images ({', '.join(IMAGE_SUFFIXES)}) or arrays "
        f"({', '.join(ARRAY_SUFFIXES)})",
    )


def class_images(folder: Path) -> list[tuple[str, Path]]:
    """Class and path of every image in the class folders of `folder`, sorted by path.

    Hidden files and folders, and files of other kinds, are left out. Raises DataError where there is no image, or one
    that lies outside the class folders.
    """
    images = sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())
    parts = [path.relative_to(folder).parts for path in images]
    labelled = [
        (names[0], path)
        for names, path in zip(parts, images, strict=True)
        if not any(name.startswith(".") for name in names)
    ]
    layout = f"give every class its own folder: {folder.name}/CLASS/image.png"
    if not labelled:
        raise DataError("the folder holds no class folders with images", where=folder, next=layout)
    for label, path in labelled:
        if label == path.name:
            raise DataError("the image lies outside the class folders", where=path, next=layout)
    return labelled


def _check_disjoint(found: tuple[Origin, ...]) -> None:
    seen: dict[Path, str | None] = {}
    for origin in found:
        other = seen.setdefault(origin.path.resolve(), origin.split)
        if other != origin.split:
            raise DataError(
                f"the file is named for two splits, {other} and {origin.split}",
                where=origin.path,
                next="name it once; what is learnt from cannot measure",
            )


def _check_one_kind(found: tuple[Origin, ...]) -> None:
    for origin in found:
        if (origin.is_image, origin.holds_arrays) != (found[0].is_image, found[0].holds_arrays):
            raise DataError(
                f"tables, images and arrays cannot be one source; {found[0].path} is of another kind",
                where=origin.path,
                next="name files of one kind",
            )
