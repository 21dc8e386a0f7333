"""Optimizers and learning-rate schedules."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from mlctl.recipe.base import Flag, Fraction, NotNegative, Positive, Settings


class SgdSettings(Settings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    """Plain gradient steps, smoothed by momentum."""

    lr: Positive = 0.1
    """Learning rate at the schedule's height."""

    momentum: Fraction = 0.9
    """Share of the last step that goes into the next."""

    nesterov: Flag = False
    """Look ahead along the momentum before the gradient is applied (Nesterov 1983)."""

    weight_decay: NotNegative = 0.0
    """L2 pull of matrices and kernels towards zero; biases and normalization are left out."""


class AdamSettings(Settings):
    """Adam (Kingma & Ba 2015): steps scaled by running moments of the gradient."""

    name: Literal["adam"] = "adam"
    """Adam with its weight decay added to the gradient."""

    lr: Positive = 1.0e-3
    """Learning rate at the schedule's height."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the first and of the second running moment."""

    eps: Positive = 1.0e-8
    """What keeps the division by a small second moment finite."""

    weight_decay: NotNegative = 0.0
    """L2 pull of matrices and kernels towards zero; biases and normalization are left out."""


class AdamWSettings(Settings):
    """AdamW (Loshchilov & Hutter 2019): Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    """Adam whose weight decay acts on the weights, not on the gradient."""

    lr: Positive = 1.0e-3
    """Learning rate at the schedule's height."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the first and of the second running moment."""

    eps: Positive = 1.0e-8
    """What keeps the division by a small second moment finite."""

    weight_decay: NotNegative = 0.01
    """Decoupled pull of matrices and kernels towards zero; biases and normalization are left out."""


OptimizerSettings: TypeAlias = Annotated[SgdSettings | AdamSettings | AdamWSettings, Field(discriminator="name")]
"""The one table of optimizers."""


class ConstantSchedule(Settings):
    """The learning rate stays where it is."""

    name: Literal["constant"] = "constant"
    """Hold the height after the warm-up."""

    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises linearly from 0 to its height."""


class CosineSchedule(Settings):
    """The learning rate falls along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"
    """Fall from the height to `floor` after the warm-up."""

    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises linearly from 0 to its height."""

    floor: Fraction = 0.0
    """Where the fall ends, as a share of the height."""


ScheduleSettings: TypeAlias = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="name")]
"""The one table of schedules."""
