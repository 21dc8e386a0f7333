"""Progress on a terminal: finished lines above, a moving bar below."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from mlctl import events
from mlctl.cli.figure_rows import color_system
from mlctl.cli.lines import event_text, progress_text
from mlctl.events import Event, Tell

STYLES = {
    events.StepReused: "dim",
    events.StepFinished: "green",
    events.StepAborted: "red",
    events.Warned: "yellow",
    events.Waiting: "yellow",
}


@contextmanager
def live_progress(width: int) -> Iterator[Tell]:
    """A `Tell` that draws on stderr until the block ends."""
    console = Console(stderr=True, color_system=color_system(), highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}"),
        console=console,
        transient=True,
    )
    with bar:
        yield _Screen(console, bar, width).tell


class _Screen:
    def __init__(self, console: Console, bar: Progress, width: int) -> None:
        self._console = console
        self._bar = bar
        self._width = width
        self._step = ""
        self._task: TaskID | None = None

    def tell(self, event: Event) -> None:
        """Draw what the event says."""
        if isinstance(event, events.Progress):
            self._move(event)
            return
        if isinstance(event, events.StepStarted):
            self._step = event.step
        self._clear()
        self._console.print(Text(event_text(event, self._step, self._width), style=STYLES.get(type(event), "")))

    def _move(self, event: events.Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task(f"{self._step:<{self._width}}", total=event.total, detail="")
        self._bar.update(self._task, completed=event.done, total=event.total, detail=progress_text(event))

    def _clear(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
