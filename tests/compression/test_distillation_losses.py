"""What a student loses against its teacher's answers, beside the formulas in float64."""

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation import AnswerLoss, AnswersAsked, AnswersKept
from mlctl.compression.distillation.distillation_losses import coarse, decoupled, soft_targets

Floats = npt.NDArray[np.float64]

# Float32 sums of some hundred numbers near 1, and cancellation in a divergence of nearly equal shares.
RELATIVE, ABSOLUTE = 1e-4, 1e-5

temperatures = st.floats(0.5, 20)
sizes = st.tuples(st.integers(1, 6), st.integers(2, 9))
seeds = st.integers(0, 2**32 - 1)


def shares(logits: Floats, temperature: float = 1.0) -> Floats:
    powers = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def divergence(reference: Floats, found: Floats) -> Floats:
    return np.asarray((reference * np.log(reference / found)).sum(-1))


def drawn(seed: int, *shape: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 3, shape), generator.normal(0, 3, shape)


def tensor(values: npt.NDArray[np.generic]) -> torch.Tensor:
    found = torch.from_numpy(values)
    return found.float() if found.is_floating_point() else found


@given(seeds, sizes, temperatures)
def test_soft_targets_are_the_divergence_times_the_temperature_squared(
    seed: int, size: tuple[int, int], temperature: float
) -> None:
    student, teacher = drawn(seed, *size)
    expected = temperature**2 * divergence(shares(teacher, temperature), shares(student, temperature)).mean()
    found = soft_targets(tensor(student), tensor(teacher), temperature)
    # T² stretches the rounding of shares that are nearly alike.
    np.testing.assert_allclose(found.item(), expected, rtol=1e-4, atol=1e-6 * temperature**2 + 1e-5)


@given(seeds, sizes, temperatures, st.floats(0.1, 10))
def test_decoupled_knowledge_is_that_of_the_true_class_and_that_of_the_others(
    seed: int, size: tuple[int, int], temperature: float, weight: float
) -> None:
    student, teacher = drawn(seed, *size)
    targets = np.random.default_rng(seed).integers(0, size[1], size[0])
    expected = []
    for mine, theirs, true in zip(student, teacher, targets, strict=True):
        p, q = shares(theirs, temperature), shares(mine, temperature)
        of_true = divergence(np.array([p[true], 1 - p[true]]), np.array([q[true], 1 - q[true]]))
        others = np.arange(size[1]) != true
        of_others = divergence(p[others] / p[others].sum(), q[others] / q[others].sum())
        expected.append(temperature**2 * (of_true + weight * of_others))
    found = decoupled(tensor(student), tensor(teacher), tensor(targets), temperature, others_weight=weight)
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=2e-4, atol=2e-6 * temperature**2 * (1 + weight))


@given(seeds, sizes)
def test_the_two_parts_weighed_by_the_teachers_doubt_are_the_whole(seed: int, size: tuple[int, int]) -> None:
    """Zhao et al. 2022, equation 5: KD = TCKD + (1 - p of the true class) · NCKD; an identity of another shape."""
    student, teacher = drawn(seed, *size)
    row, true = slice(0, 1), np.zeros(1, np.int64)
    doubt = 1 - shares(teacher[0])[0]
    found = decoupled(tensor(student[row]), tensor(teacher[row]), tensor(true), 1.0, others_weight=float(doubt))
    whole = soft_targets(tensor(student[row]), tensor(teacher[row]), 1.0)
    np.testing.assert_allclose(found.item(), whole.item(), rtol=RELATIVE, atol=ABSOLUTE)


def test_a_student_that_answers_as_its_teacher_does_loses_nothing_and_is_not_moved() -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(8) % 5
    for temperature in (1.0, 4.0):
        student = logits.clone().requires_grad_()
        loss = soft_targets(student, logits, temperature)
        loss = loss + decoupled(student, logits, targets, temperature, others_weight=8.0)
        (gradient,) = torch.autograd.grad(loss, student)
        assert abs(loss.item()) < 1e-5
        assert gradient.abs().max() < 1e-5


def test_at_a_high_temperature_soft_targets_match_logits() -> None:
    """Hinton et al. 2015, equation 4: the gradient goes to (z - v) / N for logits of mean 0."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(1, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_targets(student, teacher, 1000.0), student)
    # The next term of the series is smaller by the temperature.
    torch.testing.assert_close(gradient, (student.detach() - teacher) / 6, rtol=1e-2, atol=1e-3)


@given(seeds, st.integers(1, 4), st.integers(2, 12), st.data())
def test_kept_tokens_and_all_others_have_the_shares_of_the_whole(
    seed: int, places: int, vocabulary: int, data: st.DataObject
) -> None:
    logits, _ = drawn(seed, places, vocabulary)
    count = data.draw(st.integers(1, vocabulary - 1))
    kept = np.argsort(-logits, axis=-1)[:, :count]
    found = functional.softmax(coarse(tensor(logits), tensor(kept)), -1).numpy()
    expected = np.take_along_axis(shares(logits), kept, axis=-1)
    np.testing.assert_allclose(found[:, :-1], expected, rtol=RELATIVE, atol=ABSOLUTE)
    np.testing.assert_allclose(found[:, -1], 1 - expected.sum(-1), rtol=RELATIVE, atol=ABSOLUTE)


def test_others_that_are_all_but_impossible_still_have_a_gradient() -> None:
    logits = torch.tensor([[60.0, 0.0, -5.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0]])
    loss = soft_targets(coarse(logits, torch.tensor([[0]])), teacher, 4.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(3, 30), st.data())
def test_the_true_token_is_always_kept_and_its_place_is_told(
    seed: int, batch: int, length: int, vocabulary: int, data: st.DataObject
) -> None:
    student, teacher = (tensor(each) for each in drawn(seed, batch, length, vocabulary))
    count = data.draw(st.integers(1, vocabulary - 1))
    targets = torch.from_numpy(np.random.default_rng(seed).integers(0, vocabulary, (batch, length)))
    form = AnswerForm.of((length, vocabulary), is_distribution=True, top_k=count)
    assert form.name == "kept-tokens"
    values, indices, others = form.reduced(teacher, targets)
    assert (indices.sort(-1).values.diff(dim=-1) > 0).all()
    stored = (values.half(), indices.to(torch.uint16), others.half())
    mine, theirs, places = form.compared(student, targets, stored)
    assert torch.equal(indices.gather(-1, places.unsqueeze(-1)).squeeze(-1), targets)
    expected = shares(teacher.double().numpy())
    found = shares(theirs.double().numpy())
    true = np.take_along_axis(expected, targets.numpy()[..., None], -1)
    # A float16 logit within 16 of the largest errs by 2^-8 at most.
    np.testing.assert_allclose(np.take_along_axis(found, places.numpy()[..., None], -1), true, atol=2**-7)
    assert mine.shape == theirs.shape == (batch, length, count + 1)


def test_logits_that_float16_cannot_hold_are_kept() -> None:
    form = AnswerForm.of((3,), is_distribution=True, top_k=64)
    teacher = torch.tensor([[1e6, 1e6 - 1, -3e38], [-7e4, -7e4, -7e4]])
    (kept,) = form.reduced(teacher, torch.zeros(2, dtype=torch.int64))
    expected = [[0.7310586, 0.2689414, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(functional.softmax(kept.half().float(), -1), expected, atol=2**-8)
    assert torch.isfinite(kept.half()).all()


def test_answers_kept_and_answers_asked_teach_the_same() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs, teacher = (torch.randn(6, 4, generator=generator) for _ in range(2))
    targets = torch.arange(6) % 4
    form = AnswerForm.of((4,), is_distribution=True, top_k=64)

    class Fixed:
        identity = "fixed"

        def __call__(self, inputs: tuple[torch.Tensor, ...], /) -> torch.Tensor:
            return teacher

    guides = tuple(each.half() for each in form.reduced(teacher, targets))
    for others_weight in (None, 8.0):
        answer_loss = AnswerLoss(form, 4.0, others_weight)
        kept = AnswersKept(0.25, answer_loss).loss(outputs, targets, (outputs,), guides)
        asked = AnswersAsked(0.25, answer_loss, Fixed()).loss(outputs, targets, (outputs,), ())
        whole = answer_loss(outputs, targets, (teacher,))
        torch.testing.assert_close(asked, 0.75 * whole)
        # The halves' rounding, 2^-10 of logits below 4, through a temperature of 4 and 9 parts.
        torch.testing.assert_close(kept, asked, rtol=2e-2, atol=1e-2)


def test_numbers_are_compared_by_their_squared_distance() -> None:
    form = AnswerForm.of((1,), is_distribution=False, top_k=64)
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert AnswerLoss(form, 4.0)(student, torch.zeros(2), form.reduced(teacher, torch.zeros(2))).item() == 2.5
