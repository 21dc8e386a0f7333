import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mlctl.recipe.optimization import AdamSettings, AdamWSettings, OptimizerSettings, SgdSettings
from mlctl.training.optimizers import make_optimizer

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
    kind = torch.optim.AdamW if isinstance(settings, AdamWSettings) else torch.optim.Adam
    return kind(groups, lr=1.0, betas=settings.betas, eps=settings.eps, fused=True)


ALL = [
    SgdSettings(momentum=0.0),
    SgdSettings(momentum=0.9, weight_decay=0.01),
    SgdSettings(momentum=0.8, nesterov=True, weight_decay=0.02),
    AdamSettings(),
    AdamSettings(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.03),
    AdamWSettings(),
    AdamWSettings(betas=(0.7, 0.99), weight_decay=0.1),
]


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_every_step_is_torchs_own_bit_for_bit(settings: OptimizerSettings) -> None:
    ours, theirs = small_network(), small_network()
    optimizer, expected = make_optimizer(settings, ours), reference(settings, theirs)
    for step in range(STEPS):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(rate(step))
        for group in expected.param_groups:
            group["lr"] = rate(step)
        expected.step()
        assert all(map(torch.equal, ours.parameters(), theirs.parameters())), step
        assert all(parameter.grad is None for parameter in ours.parameters())


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


@pytest.mark.parametrize("settings", ALL, ids=str)
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
    decay = settings.weight_decay if len(shape) > 1 else 0.0
    if isinstance(settings, SgdSettings):
        expected = sgd_in_float64(settings, weight, gradients, decay)
    else:
        expected = adam_in_float64(settings, weight, gradients, decay)
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


def test_a_state_with_a_tensor_missing_is_refused() -> None:
    optimizer = make_optimizer(AdamWSettings(), small_network())
    state = optimizer.state()
    state.pop("second.3.bias")
    with pytest.raises(KeyError, match=r"second\.3\.bias"):
        optimizer.load(state)


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
