"""The metrics that say what a teacher is worth."""

from mlctl.recipe.vocabulary import TASKS

LOSSES = {"image-classification": "log_loss", "regression": "rmse", "language-modeling": "loss"}
"""By task, the metric that is nearest to what is learnt by; lower is better."""


def judged_by(task: str) -> tuple[str, ...]:
    """The metrics by which a teacher is judged, the task's main one first."""
    return tuple(dict.fromkeys((TASKS[task].main, LOSSES[task])))
