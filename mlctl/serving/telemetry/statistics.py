"""What became of one version's requests, in numbers."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets."""


@dataclass(slots=True)
class Histogram:
    """How many values lie at or below each bound, not yet summed up; the last bucket has no bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(slots=True)
class ModelStatistics:
    """Of one version of one model, since it was loaded. Only the event loop writes them."""

    pending: int = 0
    """Requests that wait or are computed."""
    succeeded: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """Requests by the reason of their refusal."""
    rows: int = 0
    """Rows of all batches that were computed."""
    batches: int = 0
    batch_sizes: dict[int, "BatchSize"] = field(default_factory=dict)
    request_seconds: Histogram = field(default_factory=Histogram)
    """From arrival to answer, of requests that were answered."""
    queue_seconds: Histogram = field(default_factory=Histogram)
    compute_seconds: Histogram = field(default_factory=Histogram)
    """Of the batch in which a request was computed, for each request."""
    last_inference: float = 0.0
    """Unix time; 0 where there was none."""

    def executed(self, rows: int, seconds: float) -> None:
        """Count a batch."""
        self.rows += rows
        self.batches += 1
        size = self.batch_sizes.setdefault(rows, BatchSize())
        size.batches += 1
        size.seconds += seconds

    def answered(self, request: float, queue: float, compute: float) -> None:
        """Count a request that was answered, with its times in seconds."""
        self.pending -= 1
        self.succeeded += 1
        for histogram, seconds in (
            (self.request_seconds, request),
            (self.queue_seconds, queue),
            (self.compute_seconds, compute),
        ):
            histogram.counts[bisect_left(SECONDS, seconds)] += 1
            histogram.total += seconds

    def refused(self, reason: str) -> None:
        """Count a request that had been pending and was refused."""
        self.pending -= 1
        self.failed[reason] = self.failed.get(reason, 0) + 1


@dataclass(slots=True)
class BatchSize:
    """Batches of one size."""

    batches: int = 0
    seconds: float = 0.0
