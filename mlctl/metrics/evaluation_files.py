"""What an evaluation keeps of every sample and every timed call."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

INDEX_FILE = "evaluation.json"
TARGETS_FILE = "targets.npy"
ANSWERS_FILE = "answers.npy"
LATENCY_FILE = "latency.npy"
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class EvaluationIndex:
    """What was evaluated: `latency.npy` is [models, batches, rounds] in the order of these names and sizes."""

    task: str
    split: str
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    batches: tuple[int, ...]
    parents: Mapping[str, str] = field(default_factory=dict)
    """By the name of an ONNX model, the evaluated model that it was made from."""

    def save(self, folder: Path) -> None:
        """Write `evaluation.json`."""
        (folder / INDEX_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "EvaluationIndex":
        """Read `evaluation.json`."""
        raw = json.loads((folder / INDEX_FILE).read_bytes())
        return cls(
            task=raw["task"],
            split=raw["split"],
            models=tuple(raw["models"]),
            metrics=tuple(raw["metrics"]),
            batches=tuple(raw["batches"]),
            parents=raw["parents"],
        )


@dataclass(frozen=True)
class EvaluationFiles:
    """An evaluation's folder, opened."""

    folder: Path
    index: EvaluationIndex

    @classmethod
    def open(cls, folder: Path) -> "EvaluationFiles":
        """The evaluation in `folder`."""
        return cls(folder, EvaluationIndex.load(folder))

    @property
    def targets(self) -> npt.NDArray[Any]:
        """The true answers, [N]; the first model's, [N, ...], where a task has no truth; [N, 0] where what is kept of
        answers says what was true."""
        return _array(self.folder / TARGETS_FILE)

    def save_targets(self, targets: npt.NDArray[Any]) -> None:
        """Keep what the models' answers are held against, as `targets` gives it."""
        np.save(self.folder / TARGETS_FILE, targets, allow_pickle=False)

    def save_seconds(self, seconds: npt.NDArray[Any]) -> None:
        """Keep the timed calls, [models, batches, rounds]."""
        np.save(self.folder / LATENCY_FILE, seconds, allow_pickle=False)

    def answers(self, model: str) -> npt.NDArray[Any]:
        """What a model answered, or what the task keeps of it, [N, ...]."""
        return _array(self.folder / model / ANSWERS_FILE)

    def all_seconds(self, model: str) -> npt.NDArray[Any]:
        """The timed calls of a model, [batches, rounds]."""
        seconds: npt.NDArray[Any] = _array(self.folder / LATENCY_FILE)[self.index.models.index(model)]
        return seconds

    def seconds(self, model: str, batch: int) -> npt.NDArray[Any]:
        """The timed calls of a model at a batch size, [rounds]."""
        seconds: npt.NDArray[Any] = self.all_seconds(model)[self.index.batches.index(batch)]
        return seconds


def _array(path: Path) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return found
