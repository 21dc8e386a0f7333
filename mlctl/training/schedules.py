"""The learning rate of every step, as a pure function."""

from math import cos, pi

from mlctl.recipe.optimization import (
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    ScheduleSettings,
    StepSchedule,
)


def learning_rate(schedule: ScheduleSettings, height: float, step: int, total: int) -> float:
    """The learning rate of step `step` (from 0) of `total`.

    The warm-up rises linearly: it would be 0 one step before the first, and is `height` at the first step after it.
    Then, over the steps that are left:

    - `cosine` falls towards `floor` × `height`, which it would reach at step `total` (Loshchilov & Hutter 2017, eq. 5,
      one period), `linear` the same along a line;
    - `step` is multiplied by `factor` from the step on that stands at each milestone's share of `total`.

    `one-cycle` is `height` at its step number `warmup` × `total`, counted from 1, and `end` × `height` at its last
    (Smith & Topin 2018, with half cosines as in torch's OneCycleLR).
    """
    if isinstance(schedule, OneCycleSchedule):
        return height * _one_cycle(schedule, step, total)
    warmup = round(schedule.warmup * total)
    if step < warmup:
        return height * (step + 1) / (warmup + 1)
    if isinstance(schedule, StepSchedule):
        passed = sum(step >= round(milestone * total) for milestone in schedule.milestones)
        return float(height * schedule.factor**passed)
    progress = (step - warmup) / (total - warmup)
    if isinstance(schedule, CosineSchedule):
        return height * _eased(1.0, schedule.floor, progress)
    if isinstance(schedule, LinearSchedule):
        return height * (1 + (schedule.floor - 1) * progress)
    return height


def _one_cycle(schedule: OneCycleSchedule, step: int, total: int) -> float:
    """The share of the height; a cycle that is too short to rise begins at the top."""
    last = total - 1
    top = max(schedule.warmup * total - 1, 0.0)
    if step < top:
        return _eased(schedule.start, 1.0, step / top)
    return _eased(1.0, schedule.end, (step - top) / (last - top)) if last > top else 1.0


def _eased(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * 0.5 * (1 + cos(pi * progress))
