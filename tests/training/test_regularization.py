import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mlctl.training.regularization import clip_gradients


def with_gradients(*gradients: torch.Tensor | None) -> list[nn.Parameter]:
    parameters = []
    for gradient in gradients:
        parameters.append(nn.Parameter(torch.zeros(3 if gradient is None else gradient.shape)))
        parameters[-1].grad = None if gradient is None else gradient.clone()
    return parameters


@given(
    longest=st.floats(1e-3, 1e3),
    size=st.floats(1e-4, 1e4),
    shapes=st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5),
)
def test_gradients_are_shortened_as_by_torch(longest: float, size: float, shapes: list[tuple[int, ...]]) -> None:
    source = torch.Generator().manual_seed(0)
    gradients = [size * torch.randn(shape, generator=source) for shape in shapes]
    ours, theirs = with_gradients(*gradients), with_gradients(*gradients)
    found = clip_gradients(ours, longest)
    wanted = torch.nn.utils.clip_grad_norm_(theirs, longest)
    # The same float32 sums, at most in another order.
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=0)


def test_short_gradients_stay_as_they_are_bit_for_bit() -> None:
    gradient = torch.tensor([0.3, -0.4])
    parameters = with_gradients(gradient, None)
    assert float(clip_gradients(parameters, 0.6)) == pytest.approx(0.5)
    assert parameters[0].grad is not None
    assert torch.equal(parameters[0].grad, gradient)
    assert parameters[1].grad is None


def test_gradients_of_zeros_have_no_length_and_stay() -> None:
    parameters = with_gradients(torch.zeros(4))
    assert float(clip_gradients(parameters, 1.0)) == 0
    assert parameters[0].grad is not None
    assert not parameters[0].grad.any()


def test_no_gradients_have_no_length() -> None:
    assert float(clip_gradients(with_gradients(None), 1.0)) == 0


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_not_hidden(strange: float) -> None:
    parameters = with_gradients(torch.tensor([1.0, strange]), torch.tensor([2.0]))
    assert not clip_gradients(parameters, 1.0).isfinite()
    assert parameters[0].grad is not None
    assert not parameters[0].grad.isfinite().all()
