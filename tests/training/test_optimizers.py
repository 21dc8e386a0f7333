import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mlctl.recipe.optimization import (
    AdagradSettings,
    AdamSettings,
    AdamWSettings,
    MuonSettings,
    OptimizerSettings,
    RmspropSettings,
    SgdSettings,
)
from mlctl.training.optimizers import Adagrad, make_optimizer

STEPS = 60


def small_network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 3))


def give_gradients(network: nn.Module, step: int) -> None:
    """Gradients that depend on the weights, so that errors would grow, and on the step."""
    source = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=source).to(parameter)
        parameter.grad = 0.3 * parameter.detach() + 0.1 * noise


def rate(step: int) -> float:
    return 0.02 * (1 + step % 7)


def reference(settings: OptimizerSettings, network: nn.Module) -> torch.optim.Optimizer:
    matrices = [each for each in network.parameters() if each.ndim > 1]
    vectors = [each for each in network.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if isinstance(settings, SgdSettings):
        return torch.optim.SGD(groups, lr=1.0, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
    if isinstance(settings, AdagradSettings):
        return torch.optim.Adagrad(groups, lr=1.0, eps=settings.eps, fused=True)
    if isinstance(settings, RmspropSettings):
        return torch.optim.RMSprop(
            groups,
            lr=1.0,
            alpha=settings.decay,
            eps=settings.eps,
            momentum=settings.momentum,
            centered=settings.centered,
        )
    assert isinstance(settings, AdamSettings | AdamWSettings)
    kind = torch.optim.AdamW if isinstance(settings, AdamWSettings) else torch.optim.Adam
    return kind(groups, lr=1.0, betas=settings.betas, eps=settings.eps, fused=True)


def step_reference(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()


FUSED = [
    SgdSettings(momentum=0.0),
    SgdSettings(momentum=0.9, weight_decay=0.01),
    SgdSettings(momentum=0.8, nesterov=True, weight_decay=0.02),
    AdamSettings(),
    AdamSettings(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.03),
    AdamWSettings(),
    AdamWSettings(betas=(0.7, 0.99), weight_decay=0.1),
    AdagradSettings(),
    AdagradSettings(eps=1e-4, weight_decay=0.05),
]
RMSPROP = [
    RmspropSettings(),
    RmspropSettings(decay=0.9, eps=1e-6, weight_decay=0.03),
    RmspropSettings(decay=0.9, momentum=0.8),
    RmspropSettings(decay=0.95, centered=True, eps=1e-4),
    RmspropSettings(decay=0.95, centered=True, eps=1e-4, momentum=0.9, weight_decay=0.02),
]
ALL = [*FUSED, *RMSPROP, MuonSettings(weight_decay=0.1)]


@pytest.mark.parametrize("settings", FUSED, ids=str)
def test_every_step_is_torchs_own_bit_for_bit(settings: OptimizerSettings) -> None:
    ours, theirs = small_network(), small_network()
    optimizer, expected = make_optimizer(settings, ours), reference(settings, theirs)
    for step in range(STEPS):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(rate(step))
        step_reference(expected, rate(step))
        assert all(map(torch.equal, ours.parameters(), theirs.parameters())), step
        assert all(parameter.grad is None for parameter in ours.parameters())


@pytest.mark.parametrize("settings", RMSPROP, ids=str)
def test_many_steps_of_rmsprop_come_near_torchs_own_in_float64(settings: RmspropSettings) -> None:
    ours, theirs = small_network(), small_network().double()
    optimizer, expected = make_optimizer(settings, ours), reference(settings, theirs)
    for step in range(STEPS):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(0.1 * rate(step))
        step_reference(expected, 0.1 * rate(step))
    for found, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        # 60 float32 steps, each wrong by a few 6e-8; a variance loses another factor of 100 to cancellation.
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_a_gradient_that_never_changes_leaves_centered_rmsprop_a_number() -> None:
    network = nn.ParameterList([torch.linspace(0.1, 2.0, 1000)])
    optimizer = make_optimizer(RmspropSettings(centered=True, decay=0.5), network)
    for _ in range(200):
        network[0].grad = torch.linspace(0.1, 2.0, 1000)
        optimizer.step(1e-9)
    assert bool(network[0].isfinite().all())


@pytest.mark.parametrize("settings", [AdagradSettings(), AdagradSettings(eps=1e-4, weight_decay=0.05)], ids=str)
def test_adagrad_takes_the_same_steps_where_there_is_no_fused_kernel(settings: AdagradSettings) -> None:
    fused, plain = small_network(), small_network()
    one, other = make_optimizer(settings, fused), make_optimizer(settings, plain)
    assert isinstance(other, Adagrad)
    other.device = torch.device("cuda")  # what it then does runs on any device
    for step in range(STEPS):
        for network, optimizer in ((fused, one), (plain, other)):
            give_gradients(network, step)
            optimizer.step(rate(step))
    for found, wanted in zip(plain.parameters(), fused.parameters(), strict=True):
        # 60 float32 steps, each wrong by a few 6e-8.
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


Array = NDArray[np.float64]


def sgd_in_float64(settings: SgdSettings, weight: Array, gradients: list[Array], decay: float) -> Array:
    momentum = np.zeros_like(weight)
    for step, gradient in enumerate(gradients):
        pulled = gradient + decay * weight
        momentum = settings.momentum * momentum + pulled
        weight = weight - rate(step) * (pulled + settings.momentum * momentum if settings.nesterov else momentum)
    return weight


def adam_in_float64(
    settings: AdamSettings | AdamWSettings, weight: Array, gradients: list[Array], decay: float
) -> Array:
    """Kingma & Ba 2015, algorithm 1; with Loshchilov & Hutter 2019, algorithm 2, line 12, for AdamW."""
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    decoupled = isinstance(settings, AdamWSettings)
    for step, gradient in enumerate(gradients):
        pulled = gradient if decoupled else gradient + decay * weight
        first = settings.betas[0] * first + (1 - settings.betas[0]) * pulled
        second = settings.betas[1] * second + (1 - settings.betas[1]) * pulled**2
        unbiased = first / (1 - settings.betas[0] ** (step + 1)), second / (1 - settings.betas[1] ** (step + 1))
        pull = decay * weight if decoupled else 0.0
        weight = weight - rate(step) * (unbiased[0] / (np.sqrt(unbiased[1]) + settings.eps) + pull)
    return weight


def adagrad_in_float64(settings: AdagradSettings, weight: Array, gradients: list[Array], decay: float) -> Array:
    squares = np.zeros_like(weight)
    for step, gradient in enumerate(gradients):
        pulled = gradient + decay * weight
        squares = squares + pulled**2
        weight = weight - rate(step) * pulled / (np.sqrt(squares) + settings.eps)
    return weight


def in_float64(settings: OptimizerSettings, weight: Array, gradients: list[Array], decay: float) -> Array:
    if isinstance(settings, SgdSettings):
        return sgd_in_float64(settings, weight, gradients, decay)
    if isinstance(settings, AdagradSettings):
        return adagrad_in_float64(settings, weight, gradients, decay)
    assert isinstance(settings, AdamSettings | AdamWSettings)
    return adam_in_float64(settings, weight, gradients, decay)


@pytest.mark.parametrize("settings", FUSED, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4,)], ids=["matrix", "vector"])
def test_many_steps_come_near_the_papers_formulas(settings: OptimizerSettings, shape: tuple[int, ...]) -> None:
    network = nn.ParameterList(
        [torch.linspace(-1, 1, 12).reshape(4, 3)[:, : 3 if len(shape) > 1 else 1].reshape(shape).contiguous()]
    )
    weight = network[0].detach().double().numpy().copy()
    optimizer = make_optimizer(settings, network)
    random = np.random.default_rng(0)
    gradients = [random.normal(size=shape).astype(np.float32).astype(np.float64) for _ in range(STEPS)]
    for step, gradient in enumerate(gradients):
        network[0].grad = torch.from_numpy(gradient.astype(np.float32))
        optimizer.step(rate(step))
    expected = in_float64(settings, weight, gradients, settings.weight_decay if len(shape) > 1 else 0.0)
    # 60 float32 steps, each wrong by a few 6e-8 of numbers that stay below 30.
    np.testing.assert_allclose(network[0].detach().numpy(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(settings: OptimizerSettings) -> None:
    through, stopped = small_network(), small_network()
    optimizer, first_half = make_optimizer(settings, through), make_optimizer(settings, stopped)
    for step in range(10):
        for network, each in ((through, optimizer), (stopped, first_half)):
            give_gradients(network, step)
            each.step(rate(step))
    second_half = make_optimizer(settings, stopped)
    second_half.load({name: tensor.clone() for name, tensor in first_half.state().items()})
    for step in range(10, 20):
        for network, each in ((through, optimizer), (stopped, second_half)):
            give_gradients(network, step)
            each.step(rate(step))
    assert all(map(torch.equal, through.parameters(), stopped.parameters()))


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_a_state_with_a_tensor_missing_is_refused(settings: OptimizerSettings) -> None:
    optimizer = make_optimizer(settings, small_network())
    for name in optimizer.state():
        state = dict(optimizer.state())
        state.pop(name)
        with pytest.raises(KeyError, match=name.replace(".", r"\.")):
            optimizer.load(state)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_a_rate_that_is_a_tensor_gives_the_same_steps(settings: OptimizerSettings) -> None:
    as_number, as_tensor = small_network(), small_network()
    numbers, tensors = make_optimizer(settings, as_number), make_optimizer(settings, as_tensor)
    for step in range(10):
        for network in (as_number, as_tensor):
            give_gradients(network, step)
        numbers.step(rate(step))
        tensors.step(torch.tensor(rate(step)))
    for found, wanted in zip(as_tensor.parameters(), as_number.parameters(), strict=True):
        # The rate itself is rounded to float32; ten steps.
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_has_no_gradient_stays_where_it_is() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    before = {name: each.clone() for name, each in network.named_parameters()}
    optimizer = make_optimizer(AdamWSettings(weight_decay=0.5), network)
    weight = network.get_parameter("3.weight")
    weight.grad = torch.ones_like(weight)
    optimizer.step(0.1)
    moved = [name for name, each in network.named_parameters() if not torch.equal(each, before[name])]
    assert moved == ["3.weight"]
    assert not any(name.startswith("first.0") for name in optimizer.state())


@pytest.mark.parametrize(
    "settings",
    [AdamWSettings(weight_decay=0.5), MuonSettings(weight_decay=0.5, adamw=AdamWSettings(weight_decay=0.5))],
    ids=str,
)
def test_weight_decay_pulls_embeddings_but_neither_biases_nor_normalization(settings: OptimizerSettings) -> None:
    network = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(2.0)
    optimizer = make_optimizer(settings, network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(settings.lr)
    pulled = {name for name, each in network.named_parameters() if float(each.detach().max()) < 2.0}
    assert pulled == {"0.weight", "2.weight", "3.weight"}


@pytest.mark.parametrize("settings", [SgdSettings(), AdamWSettings(), AdagradSettings(), RmspropSettings()], ids=str)
def test_l1_is_the_gradient_of_the_sum_of_absolute_matrices(settings: OptimizerSettings) -> None:
    l1 = 0.03
    ours, theirs = small_network(), small_network()
    optimizer, expected = make_optimizer(settings, ours, l1=l1), make_optimizer(settings, theirs)
    image = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(10):
        ours(image).square().mean().backward()
        matrices = [each for each in theirs.parameters() if each.ndim > 1]
        penalty = torch.stack([each.abs().sum() for each in matrices]).sum()
        (theirs(image).square().mean() + l1 * penalty).backward()
        optimizer.step(1e-2)
        expected.step(1e-2)
    for found, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        # The same gradient, summed in another order, over ten steps; Adam's first divides it by its own size.
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_kernels_in_channels_last_are_moved_by_their_own_gradients() -> None:
    ours, theirs = (small_network().to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    expected = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9, foreach=False, fused=False)
    optimizer = make_optimizer(SgdSettings(), ours)
    image = torch.randn(8, 2, 4, 4)
    for _ in range(20):
        for network in (ours, theirs):
            network(image).square().sum().backward()
        optimizer.step(1e-3)
        expected.step()
        expected.zero_grad()
    for found, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        # Twenty float32 steps that round in another order.
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_no_optimizer_loads_what_takes_longer_than_a_short_training() -> None:
    code = """
import sys, torch
from torch import nn
from mlctl.recipe.optimization import *
from mlctl.training.optimizers import Adagrad, make_optimizer
from mlctl.training.regularization import clip_gradients
from mlctl.training.weight_mean import WeightMean
network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
mean = WeightMean(network, 0.9)
for settings in (SgdSettings(), AdamSettings(), AdagradSettings(), RmspropSettings(), MuonSettings()):
    network(torch.ones(5, 3)).sum().backward()
    clip_gradients(network.parameters(), 1.0)
    make_optimizer(settings, network, l1=0.1).step(0.1)
    mean.update()
print(sorted(name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert found.stdout == "[]\n"
