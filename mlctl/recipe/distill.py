"""What a recipe can say about learning from another model."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from mlctl.recipe.base import Count, Flag, Fraction, NotNegative, Positive
from mlctl.recipe.networks import CnnSettings, NetworkSettings
from mlctl.recipe.train import FitSettings

LayerPairs: TypeAlias = dict[str, str]


class DistillSettings(FitSettings):
    """A smaller network learns from a larger one's answers."""

    teacher: str
    """A step, an ONNX file beside the recipe, or the URL of a served model (Open Inference Protocol v2):
    http://HOST:PORT/v2/models/NAME."""

    data: str | None = None
    """The prepare step to learn from; the nearest one above, unless this names another."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """A step whose network, pruned or not, is the student and starts from its weights; instead of `model`."""

    model: NetworkSettings | None = None
    """The student, where `from` names none; `arch: cnn` unless this says otherwise."""

    loss: Literal["soft-targets", "features", "attention", "decoupled"] = "soft-targets"
    """What the student imitates: the teacher's answers, softened (Hinton et al. 2015) or with what is said of the true
    class and of the others told apart (`decoupled`, Zhao et al. 2022), or beside the softened answers what layers
    within give (`features`, Romero et al. 2015) or look at (`attention`, Zagoruyko & Komodakis 2017)."""

    temperature: Positive = 4.0
    """How much answers are softened."""

    hard: Fraction = 0.1
    """Share of the task's own loss in the sum."""

    layers: LayerPairs | None = None
    """For `features` and `attention`: layers of the student by name, and the teacher's that each imitates; found by
    the shapes that they give, unless this names them."""

    layer_weight: NotNegative = 1.0
    """For `features` and `attention`: what imitating layers counts beside imitating answers."""

    others_weight: Positive = 8.0
    """For `decoupled`: what is said of the other classes counts so much, that of the true class 1."""

    top_k: Count = 64
    """Tokens of every place whose probabilities are kept, of a teacher over a larger vocabulary."""

    initialize: Flag = False
    """Start layers from the teacher's where name and shape are the same."""

    @model_validator(mode="after")
    def _has_one_student(self) -> Self:
        if self.from_ is not None and self.model is not None:
            raise ValueError("the student is either `model` or that of the step in `from`")
        return self

    @property
    def student(self) -> NetworkSettings | None:
        """The network that is made fresh; none where a step gives it."""
        return None if self.from_ is not None else self.model or CnnSettings()
