"""A training's epochs in an event file that TensorBoard reads."""

import time
from pathlib import Path

from mlctl.errors import MachineError
from mlctl.events import Tell, Warned
from mlctl.training.event_files import EventFile
from mlctl.training.tracker import Ending, EpochFigures, Tracker


class TensorBoard(Tracker):
    """Appends every epoch to the one event file in `folder`; a disk that refuses ends this, not the training."""

    def __init__(self, folder: Path, tell: Tell, *, goes_on: bool) -> None:
        """`goes_on` keeps what an earlier process of the same training wrote. Raises MachineError."""
        self._tell = tell
        self._folder = folder
        try:
            self._file: EventFile | None = EventFile(folder, goes_on=goes_on)
        except OSError as error:
            raise MachineError(
                f"TensorBoard's event file cannot be written ({error.strerror})",
                where=folder,
                next="name a folder that can be written with `track.tensorboard`",
            ) from error

    def epoch(self, figures: EpochFigures) -> None:
        if self._file is None:
            return
        try:
            self._file.write(figures.step, figures.named, time.time())
        except OSError as error:
            self._file = None
            self._tell(Warned(f"{self._folder}: TensorBoard hears no more of this training ({error.strerror})"))

    def close(self, ending: Ending) -> None:
        pass  # every epoch is in the file already
