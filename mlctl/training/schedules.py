"""The learning rate of every step, as a pure function."""

from math import cos, pi

from mlctl.recipe.optimization import CosineSchedule, ScheduleSettings


def learning_rate(schedule: ScheduleSettings, height: float, step: int, total: int) -> float:
    """The learning rate of step `step` (from 0) of `total`.

    The warm-up rises linearly: it would be 0 one step before the first, and is `height` at the first step after it.
    A cosine then falls towards `floor` × `height`, which it would reach at step `total` (Loshchilov & Hutter 2017,
    eq. 5, one period).
    """
    warmup = round(schedule.warmup * total)
    if step < warmup:
        return height * (step + 1) / (warmup + 1)
    if not isinstance(schedule, CosineSchedule):
        return height
    progress = (step - warmup) / (total - warmup)
    return height * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + cos(pi * progress)))
