"""One file that a prepare step reads."""

from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True)
class Origin:
    """A file as it lies on this disk, and what the recipe says of it."""

    path: Path
    """Ends as the file itself is called, wherever it was fetched from or extracted to."""
    split: str | None = None
    """The split that the recipe names the file for, if it does."""
    label: str | None = None
    """The class that the file's place tells, for kinds of sources where it does."""
    alias: str = ""
    """What messages call a file that was fetched or extracted: its address, or `ARCHIVE!MEMBER`."""
    inner: PurePath | None = None
    """Its place within the folder or archive that the recipe names."""
    listed_in: str = ""
    """The folder or archive that the recipe names as a whole, in place of its files."""

    @property
    def name(self) -> str:
        """What messages call the file; another name than `path` where it lies in a private folder for the moment."""
        return self.alias or str(self.path)
