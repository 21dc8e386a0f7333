"""Optimizers and learning-rate schedules."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from mlctl.recipe.base import Flag, Fraction, NotNegative, Positive, PositiveFraction, Settings


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
    """L2 pull of matrices, kernels and embeddings towards zero; biases and normalization are left out."""


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
    """L2 pull of matrices, kernels and embeddings towards zero; biases and normalization are left out."""


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
    """Decoupled pull of matrices, kernels and embeddings towards zero; biases and normalization are left out."""


class AdagradSettings(Settings):
    """Adagrad (Duchi et al. 2011): steps scaled by all gradients so far."""

    name: Literal["adagrad"] = "adagrad"
    """Steps that shrink with the gradients' running sum of squares."""

    lr: Positive = 1.0e-2
    """Learning rate at the schedule's height."""

    eps: Positive = 1.0e-10
    """What keeps the division by a small sum finite."""

    weight_decay: NotNegative = 0.0
    """L2 pull of matrices, kernels and embeddings towards zero; biases and normalization are left out."""


class RmspropSettings(Settings):
    """RMSprop (Tieleman & Hinton 2012): steps scaled by a running mean of squared gradients."""

    name: Literal["rmsprop"] = "rmsprop"
    """Steps divided by the root of recent squared gradients."""

    lr: Positive = 1.0e-3
    """Learning rate at the schedule's height."""

    decay: Fraction = 0.99
    """Decay of the running mean of squares."""

    momentum: Fraction = 0.0
    """Share of the last step that goes into the next."""

    centered: Flag = False
    """Divide by the deviation of the gradient, not by its root mean square (Graves 2013)."""

    eps: Positive = 1.0e-8
    """What keeps the division by a small root finite."""

    weight_decay: NotNegative = 0.0
    """L2 pull of matrices, kernels and embeddings towards zero; biases and normalization are left out."""


class MuonSettings(Settings):
    """Muon (Jordan 2024): momentum made orthogonal for hidden matrices and kernels, AdamW for all the rest."""

    name: Literal["muon"] = "muon"
    """Steps along the orthogonal matrix nearest to the momentum; embeddings and the head go to AdamW."""

    lr: Positive = 0.02
    """Learning rate of the matrices at the schedule's height."""

    momentum: Fraction = 0.95
    """Share of the running gradient that is kept, with Nesterov's look ahead."""

    weight_decay: NotNegative = 0.0
    """Decoupled pull of the matrices towards zero."""

    adamw: AdamWSettings = AdamWSettings()
    """What moves embeddings, the head, biases and normalization; its rate follows the same schedule."""


OptimizerSettings: TypeAlias = Annotated[
    SgdSettings | AdamSettings | AdamWSettings | AdagradSettings | RmspropSettings | MuonSettings,
    Field(discriminator="name"),
]
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


class StepSchedule(Settings):
    """The learning rate is multiplied by `factor` at every milestone."""

    name: Literal["step"] = "step"
    """Fall in steps after the warm-up."""

    milestones: Annotated[tuple[PositiveFraction, ...], Field(min_length=1)] = (0.5, 0.75)
    """Shares of all steps at which the rate falls, in rising order."""

    factor: PositiveFraction = 0.1
    """What the rate is multiplied by at each."""

    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises linearly from 0 to its height."""

    @field_validator("milestones")
    @classmethod
    def _rises(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError("milestones stand in rising order, each once")
        return milestones


class LinearSchedule(Settings):
    """The learning rate falls along a straight line."""

    name: Literal["linear"] = "linear"
    """Fall from the height to `floor` after the warm-up."""

    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises linearly from 0 to its height."""

    floor: Fraction = 0.0
    """Where the fall ends, as a share of the height."""


class OneCycleSchedule(Settings):
    """One cycle (Smith & Topin 2018): half a cosine up from a low rate, half a cosine down to a far lower one."""

    name: Literal["one-cycle"] = "one-cycle"
    """Rise to the height over `warmup`, then fall to `end`."""

    warmup: PositiveFraction = 0.3
    """Share of all steps in which the rate rises."""

    start: PositiveFraction = 0.04
    """Where the rise begins, as a share of the height."""

    end: Fraction = 4.0e-6
    """Where the fall ends, as a share of the height."""


ScheduleSettings: TypeAlias = Annotated[
    ConstantSchedule | StepSchedule | LinearSchedule | CosineSchedule | OneCycleSchedule, Field(discriminator="name")
]
"""The one table of schedules."""
