"""huggingface-hub in our manner: silent, patient, over plain HTTP, with its progress told instead of drawn."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from mlctl.data.hub_client import PatientClient
from mlctl.data.remote_progress import DownloadProgress
from mlctl.data.remote_retrying import Attempts
from mlctl.events import Tell


@contextmanager
def patient_library(attempts: Attempts) -> Iterator[None]:
    """Within the block the library is patient and silent, sends no telemetry, and downloads over plain HTTP.

    Its Xet storage would open connections and a cache of its own, beside the proxies and the patience that hold here.
    """
    logger = logging.getLogger("huggingface_hub")
    before = logger.level, constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_DISABLE_XET
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_XET = True
        set_client_factory(lambda: PatientClient(attempts))
        try:
            yield
        finally:
            set_client_factory(default_client_factory)
            level, constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_DISABLE_XET = before
            logger.setLevel(level)


class ProgressBar:
    """Stands where the library would draw a bar."""

    def __init__(self, progress: DownloadProgress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""

    def update(self, count: int) -> None:
        """So many bytes more; fewer than none where the library begins again."""
        self._progress.advance(count)


def progress_bars(tell: Tell, name: str) -> Callable[..., ProgressBar]:
    """What the library calls, with the options of a bar, to make one."""

    def bar(*, total: int | None = None, initial: int = 0, **look: object) -> ProgressBar:
        return ProgressBar(DownloadProgress(tell, name, total, initial))

    return bar
