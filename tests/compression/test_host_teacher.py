"""Teachers that give finished answers, and what those come to as raw outputs; and a teacher inside a training."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation import AnswerLoss, AnswersAsked
from mlctl.compression.distillation.host_teacher import HostTeacher, unfinished
from mlctl.compression.distillation.teacher_figures import chance
from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData, Split
from mlctl.events import silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.recipe.augmentation import AugmentSettings
from mlctl.recipe.train import FitSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Samples
from mlctl.training.loop import fit

Rows = npt.NDArray[Any]


def described(task: str, *, labels: tuple[str, ...] = (), vocabulary: int = 0) -> DataDescription:
    scaling = Scaling(2.0, (1.5,), (4.0,)) if task == "regression" else Scaling()
    fields = (Field("x", "uint8", (1, 2, 2)),)
    rows = {"train": 3, "validation": 4, "test": 3}
    return DataDescription(task, fields, (Scaling(),), Field("y", "int64", ()), scaling, labels, rows, vocabulary)


CLASSES = described("image-classification", labels=("a", "b", "c"))


def shares(logits: Rows, temperature: float) -> Rows:
    powers = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


@given(arrays(np.float64, (4, 3), elements=st.floats(-30, 30)), st.floats(1, 20))
def test_probabilities_say_at_any_temperature_what_their_logits_say(logits: Rows, temperature: float) -> None:
    found = unfinished(CLASSES, None)(shares(logits, 1.0).astype(np.float32))
    assert found.dtype == np.float32
    # Float32 probabilities err by 6e-8 of themselves, and so do their logarithms absolutely.
    np.testing.assert_allclose(shares(found.astype(np.float64), temperature), shares(logits, temperature), atol=1e-6)


def test_an_impossible_class_has_a_logarithm() -> None:
    found = unfinished(CLASSES, None)(np.array([[1.0, 0.0, 1e-45]], np.float32))
    np.testing.assert_array_equal(found[0, 1:], np.log(np.finfo(np.float32).tiny))
    assert found[0, 0] == 0


@pytest.mark.parametrize(
    ("description", "ending"), [(CLASSES, "softmax"), (described("language-modeling", vocabulary=9), None)]
)
def test_logits_stay_as_they_are(description: DataDescription, ending: Any) -> None:
    logits = np.array([[3.0, -5.0, 700.0]], np.float16)
    np.testing.assert_array_equal(unfinished(description, ending)(logits), logits)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_numbers_go_back_to_the_unit_that_is_learnt(shape: tuple[int, ...]) -> None:
    numbers = np.array([3.0, 11.0, -5.0]).reshape(shape)
    # The mean is 1.5 · 2 and the deviation 4 · 2.
    found = unfinished(described("regression"), None)(numbers)
    np.testing.assert_array_equal(found, np.array([[0.0], [1.0], [-1.0]], np.float32))


def test_blended_pixels_are_rounded_to_what_the_model_takes() -> None:
    seen: list[Rows] = []

    def model(rows: tuple[Rows, ...]) -> Rows:
        seen.extend(rows)
        return np.full((len(rows[0]), 3), 1 / 3)

    teacher = HostTeacher(model, ["uint8"], unfinished(CLASSES, None), "t")
    teacher((torch.tensor([[0.4, 254.6, 1.5]]),))
    teacher((torch.tensor([[7, 255]], dtype=torch.uint8),))
    assert [(each.dtype.name, each.tolist()) for each in seen] == [("uint8", [[0, 255, 2]]), ("uint8", [[7, 255]])]


class Recorder:
    """A teacher that remembers what it was shown."""

    identity = "recorder"

    def __init__(self) -> None:
        self.shown: list[Tensor] = []

    def __call__(self, inputs: tuple[Tensor, ...], /) -> Tensor:
        self.shown.append(inputs[0].clone())
        return torch.zeros(len(inputs[0]), 3)


class Watching(CompleteModel):
    """A model that remembers the raw inputs that it learnt from."""

    seen: list[Tensor]

    def preprocess(self, *raw: Tensor) -> tuple[Tensor, ...]:
        if self.training:
            self.seen.append(raw[0].clone())
        return super().preprocess(*raw)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_the_teacher_sees_what_the_student_sees(tmp_path: Path, micro_batch: int | None) -> None:
    torch.manual_seed(0)
    student = Watching(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (InputScaling(16.0),), nn.Softmax(dim=1))
    student.seen = []
    generator = np.random.default_rng(2)
    pixels = generator.integers(0, 17, (12, 1, 4, 4), dtype=np.uint8)
    samples = Samples((pixels,), generator.integers(0, 3, 12))
    teacher = Recorder()
    teaching = AnswersAsked(0.5, AnswerLoss(AnswerForm("logits", (3,)), 2.0), teacher)
    augment = AugmentSettings(shift=1, flip=True, mixup=0.5)
    settings = FitSettings(epochs=2, batch_size=6, micro_batch=micro_batch, augment=augment, precision="float32")
    fit(
        student, samples, samples, CrossEntropy(), settings,
        seed=1, device=torch.device("cpu"), resume=tmp_path, tell=silent, teaching=teaching,
    )  # fmt: skip
    assert len(teacher.shown) == 4 * (2 if micro_batch else 1)
    assert all(torch.equal(*pair) for pair in zip(teacher.shown, student.seen, strict=True))
    originals = {image.tobytes() for image in pixels.astype(np.float32)}
    assert not all(image.numpy().tobytes() in originals for image in torch.cat(teacher.shown))


def data_of(description: DataDescription, targets: Rows) -> PreparedData:
    split = Split((np.zeros((len(targets), 1, 2, 2), np.uint8),), targets, np.arange(len(targets)))
    return PreparedData(description, (split, split, split))


def test_chance_is_what_the_targets_alone_tell() -> None:
    assert chance("accuracy", data_of(CLASSES, np.array([2, 0, 2, 1]))) == 0.5
    assert chance("rmse", data_of(described("regression"), np.array([1.0, 3.0]))) == 1.0
    tokens = data_of(described("language-modeling", vocabulary=8), np.zeros((2, 3), np.uint8))
    assert chance("loss", tokens) == pytest.approx(np.log(8))
    assert chance("bits_per_character", tokens) is None


def test_tokens_are_stored_in_what_holds_their_numbers() -> None:
    kinds = {
        vocabulary: AnswerForm.of((4, vocabulary), is_distribution=True, top_k=64).arrays[1].dtype
        for vocabulary in (65, 65536, 65537)
    }
    assert kinds == {65: "uint16", 65536: "uint16", 65537: "uint32"}
    assert AnswerForm.of((4, 64), is_distribution=True, top_k=64).name == "logits"
