"""Triton's statistics extension: what became of a version's requests, as plain data for REST and gRPC."""

from dataclasses import dataclass
from typing import Any

from mlctl.serving.catalogue import Catalogue, Live
from mlctl.serving.telemetry.statistics import Histogram


@dataclass(frozen=True)
class Spent:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def as_json(self) -> dict[str, int]:
        """As the extension spells it."""
        return {"count": self.count, "ns": self.ns}


@dataclass(frozen=True)
class BatchSpent:
    """Batches of one size."""

    batch_size: int
    compute_infer: Spent


@dataclass(frozen=True)
class VersionStatistics:
    """Of one version of a model, since it was loaded.

    What the extension also has and this server does not measure (the time of failed requests, of bringing tensors to a
    device and back, a cache) is left at zero by those who write it.
    """

    name: str
    version: int
    last_inference_ms: int
    """Unix time; 0 where there was none."""
    inference_count: int
    """Rows that were computed."""
    execution_count: int
    """Batches."""
    success: Spent
    """From arrival to answer."""
    fail: Spent
    queue: Spent
    compute_infer: Spent
    """The time of a request's batch, for each request that was answered."""
    batches: tuple[BatchSpent, ...]
    """By size."""

    def as_json(self) -> dict[str, Any]:
        """As the extension spells it."""
        nothing = Spent().as_json()
        return {
            "name": self.name,
            "version": str(self.version),
            "last_inference": self.last_inference_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                "success": self.success.as_json(),
                "fail": self.fail.as_json(),
                "queue": self.queue.as_json(),
                "compute_input": nothing,
                "compute_infer": self.compute_infer.as_json(),
                "compute_output": nothing,
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": each.batch_size,
                    "compute_input": nothing,
                    "compute_infer": each.compute_infer.as_json(),
                    "compute_output": nothing,
                }
                for each in self.batches
            ],
        }


def statistics_of(catalogue: Catalogue, name: str = "", version: str = "") -> tuple[VersionStatistics, ...]:
    """Of every version that takes requests; of one model's, or of one version, where they are named.

    Raises Unknown for what there is not, NotReady for a version that does not take requests now.
    """
    if version:
        return (_statistics(catalogue.find(name, version)),)
    if name:
        catalogue.entries(name)
    return tuple(_statistics(live) for live in catalogue.live() if name in ("", live.signature.name))


def _statistics(live: Live) -> VersionStatistics:
    found, signature = live.statistics, live.signature
    return VersionStatistics(
        name=signature.name,
        version=signature.version,
        last_inference_ms=round(found.last_inference * 1e3),
        inference_count=found.rows,
        execution_count=found.batches,
        success=_spent(found.request_seconds),
        fail=Spent(sum(found.failed.values())),
        queue=_spent(found.queue_seconds),
        compute_infer=_spent(found.compute_seconds),
        batches=tuple(
            BatchSpent(size, Spent(each.batches, _ns(each.seconds))) for size, each in sorted(found.batch_sizes.items())
        ),
    )


def _spent(histogram: Histogram) -> Spent:
    return Spent(histogram.count, _ns(histogram.total))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
