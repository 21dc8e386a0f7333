"""How good a teacher is: the task's figures of its answers to held-out rows."""

from collections.abc import Sequence

import numpy as np
import torch

from mlctl.compression.distillation.answering import BATCH, tensors
from mlctl.compression.distillation.teacher import Teacher
from mlctl.data.prepared import PreparedData
from mlctl.runtime.answers import Arrays, answer
from mlctl.tasks.table import TASKS
from mlctl.tasks.task import Answers, Measured

CONFIDENCE = 0.95


def teacher_figures(
    teacher: Teacher,
    data: PreparedData,
    metrics: Sequence[str],
    device: torch.device,
    *,
    most: int | None = None,
) -> tuple[Measured, ...]:
    """The figures of these names over the validation split, or its first `most` rows.

    Raises StepFailed for answers that are not finite, DataError where the split has no rows.
    """
    task, split = TASKS[data.description.task], data.split("validation")
    finish = task.finish(data.description.target_scaling).to(device)
    chosen = slice(0, most)
    targets = split.targets[chosen]

    def model(rows: Arrays) -> Answers:
        with torch.inference_mode():
            found: torch.Tensor = finish(teacher(tensors(rows, slice(None), device)))
            return found.cpu().numpy()

    def keep(answers: Answers, rows: slice) -> Answers:
        return task.kept(answers, targets[rows], data)

    kept = answer(model, tuple(each[chosen] for each in split.inputs), BATCH, keep=keep)
    return task.measure(tuple(metrics), kept, task.kept_targets(targets), CONFIDENCE)


def chance(metric: str, data: PreparedData) -> float | None:
    """The figure of whoever knows the validation targets' frequencies alone; None for a metric without such a figure.

    The share of the most frequent class and the entropy of all of them, the targets' deviation, and a language model's
    nats for tokens that are all alike.
    """
    targets = data.split("validation").targets
    if metric in ("accuracy", "log_loss"):
        shares = np.bincount(targets.astype(np.int64).ravel()) / targets.size
        known = shares[shares > 0]
        return float(shares.max() if metric == "accuracy" else -(known * np.log(known)).sum())
    if metric == "rmse":
        return float(targets.astype(np.float64).std())
    if metric == "loss" and data.description.vocabulary:
        return float(np.log(data.description.vocabulary))
    return None
