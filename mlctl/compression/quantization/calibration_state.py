"""How far a calibration has come, as one file, so that a killed one goes on where it stood."""

import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from mlctl.compression.quantization.histograms import BINS, Histogram
from mlctl.events import Tell, Warned

FILE_NAME = "calibration.npz"
SECONDS = 15.0

_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, TokenError, zipfile.BadZipFile)
"""What reading a changed file comes to: the last three are an encrypted part, a torn header and a broken checksum."""


@dataclass(frozen=True)
class Progressed:
    """`rows` rows of slice number `slice` (from 0) are counted, and all of the slices before it."""

    slice: int
    rows: int
    histograms: Mapping[str, Histogram]


class CalibrationState:
    """The one file of a calibration in its private folder, written every so many seconds.

    `key` says what is calibrated: the graph, the rows, the slices, and whether values are counted. A file with another
    key is left out.
    """

    def __init__(self, folder: Path, key: str, tell: Tell, seconds: float = SECONDS) -> None:
        self.path = folder / FILE_NAME
        self._key = key
        self._tell = tell
        self._seconds = seconds
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last file is old enough to be replaced."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, progressed: Progressed) -> None:
        """Replace the file by rename: a whole one lies there, the old or the new."""
        names = tuple(progressed.histograms)
        found = tuple(progressed.histograms.values())
        aside = self.path.with_suffix(".writing")
        with aside.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                key=np.array(self._key),
                place=np.array([progressed.slice, progressed.rows]),
                names=np.array(names),
                extremes=np.array([(each.low, each.high) for each in found]),
                exponents=np.array([each.exponent for each in found]),
                counts=np.array([each.counts for each in found]),
            )
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self.path)
        self._written = time.monotonic()

    def read(self) -> Progressed | None:
        """What lies there, or None for a start from the beginning. A damaged file is told of and left out."""
        if not self.path.exists():
            return None
        try:
            return self._parsed()
        except _DAMAGE as error:
            self._tell(Warned(f"{self.path}: not a usable state ({error}); calibration starts from the beginning"))
            return None

    def _parsed(self) -> Progressed | None:
        with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if str(stored["key"]) != self._key:
                return None
            counts = stored["counts"]
            if counts.dtype != np.int64 or counts.shape[1:] != (2 * BINS,):
                raise ValueError("its counts have another shape")
            parts = zip(stored["names"].tolist(), stored["extremes"], stored["exponents"], counts, strict=True)
            found = {
                name: Histogram(float(low), float(high), int(exponent), of_name)
                for name, (low, high), exponent, of_name in parts
            }
            part, rows = (int(each) for each in stored["place"])
        return Progressed(part, rows, found)
