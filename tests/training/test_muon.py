import copy
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim._muon import _zeropower_via_newtonschulz

from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings, LstmSettings, MlpSettings, NetworkSettings, TransformerSettings
from mlctl.recipe.optimization import AdamWSettings, MuonSettings, SgdSettings
from mlctl.training.muon import arithmetic, hidden_matrices, newton_schulz
from mlctl.training.optimizers import make_optimizer

Array = NDArray[np.float64]


def random_matrices(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_singular_vectors_stay_and_singular_values_come_near_one() -> None:
    matrices = random_matrices(3, 10, 24)
    found = newton_schulz(matrices)
    left, _, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    turned = left.mT @ found.double() @ right.mT
    values = turned.diagonal(dim1=1, dim2=2)
    # The range that Jordan 2024 gives for these coefficients.
    assert float(values.min()) > 0.68
    assert float(values.max()) < 1.21
    # Nothing but the diagonal is left: 5 iterations of float32, whose polynomial magnifies an error up to 3.4 times.
    torch.testing.assert_close(turned, torch.diag_embed(values), rtol=0, atol=1e-4)


@given(rows=st.integers(1, 9), more=st.integers(0, 9), size=st.floats(-6, 6), seed=st.integers(0, 99))
def test_the_iteration_forgets_how_long_a_matrix_was(rows: int, more: int, size: float, seed: int) -> None:
    matrix = random_matrices(1, rows, rows + more, seed=seed)
    found, longer = newton_schulz(matrix), newton_schulz(matrix * 10.0**size)
    # As above; a singular value near 0 is magnified by 3.4445⁵ = 485.
    torch.testing.assert_close(longer, found, rtol=1e-3, atol=1e-3)


def test_in_bfloat16_the_iteration_is_torchs_own() -> None:
    # Rounded to bfloat16 once at the same place, and then in each of 15 products of numbers of either sign below 1.
    matrix = random_matrices(1, 20, 50)
    wanted = _zeropower_via_newtonschulz(matrix[0], (3.4445, -4.7750, 2.0315), 5, 1e-7)
    found = newton_schulz(matrix, torch.bfloat16)[0]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=15 * 2**-8)


def test_only_a_gpu_iterates_in_bfloat16() -> None:
    assert arithmetic(torch.device("cpu")) == torch.float32


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not newton_schulz(torch.zeros(1, 3, 4)).any()


def muon_in_float64(settings: MuonSettings, weight: Array, gradients: list[Array], rates: list[float]) -> Array:
    """Jordan 2024, algorithm 2 with Nesterov momentum, the iteration of his section "Muon's coefficients"."""
    shape = weight.shape
    moving = np.zeros((shape[0], weight.size // shape[0]))
    for gradient, rate in zip(gradients, rates, strict=True):
        flat = gradient.reshape(moving.shape)
        moving = settings.momentum * moving + (1 - settings.momentum) * flat
        x = settings.momentum * moving + (1 - settings.momentum) * flat
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
        scale = sqrt(max(1.0, moving.shape[0] / moving.shape[1]))
        weight = weight * (1 - rate * settings.weight_decay) - rate * scale * x.reshape(shape)
    return weight


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (8, 2, 3, 3), (40, 2, 3, 3), (3, 4, 2)], ids=str)
def test_many_steps_come_near_the_published_algorithm(shape: tuple[int, ...]) -> None:
    settings = MuonSettings(weight_decay=0.1, momentum=0.9)
    layer: nn.Module
    if len(shape) == 2:
        layer = nn.Linear(shape[1], shape[0])
    else:
        layer = (nn.Conv1d if len(shape) == 3 else nn.Conv2d)(shape[1], shape[0], shape[2])
    network = nn.Sequential(layer, nn.Linear(2, 2))
    weight = network.get_parameter("0.weight")
    before = weight.detach().double().numpy().copy()
    optimizer = make_optimizer(settings, network)
    gradients = [random_matrices(*shape, seed=step) for step in range(40)]
    rates = [0.02 * (1 + step % 5) for step in range(40)]
    for gradient, rate in zip(gradients, rates, strict=True):
        weight.grad = gradient.clone()
        optimizer.step(rate)
    wanted = muon_in_float64(settings, before, [each.double().numpy() for each in gradients], rates)
    # 40 steps of at most 0.1, each off by 1e-4 at the worst as above; mostly far less, and of either sign.
    np.testing.assert_allclose(weight.detach().numpy(), wanted, rtol=0, atol=1e-4)


def test_a_step_is_torchs_own_as_far_as_bfloat16_goes() -> None:
    ours, theirs = (nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 2)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    expected = torch.optim.Muon([theirs.get_parameter("0.weight")], lr=0.02, momentum=0.95, weight_decay=0.1)
    optimizer = make_optimizer(MuonSettings(weight_decay=0.1), ours)
    for step in range(20):
        for network in (ours, theirs):
            network.get_parameter("0.weight").grad = random_matrices(20, 12, seed=step)
        optimizer.step(0.02)
        expected.step()  # type: ignore[no-untyped-call]
    # Each step is 0.02 × 1.3 at most in any direction; torch iterates in bfloat16 even on a CPU, which has 8 bits.
    found, wanted = ours.get_parameter("0.weight"), theirs.get_parameter("0.weight")
    torch.testing.assert_close(found, wanted, rtol=0, atol=20 * 0.02 * 1.3 * 2**-8 * 4)


@pytest.mark.parametrize("number", range(4))
def test_matrices_that_are_iterated_together_move_as_each_would_alone(number: int) -> None:
    # A matrix and one of its transposed shape share a batch.
    together = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 6), nn.Conv2d(2, 6, 3), nn.Linear(6, 9), nn.Linear(3, 3))
    alone = copy.deepcopy(together)
    name = f"{number}.weight"
    for network, moved in ((together, range(4)), (alone, [number])):
        optimizer = make_optimizer(MuonSettings(), network)
        for step in range(3):
            for each in moved:
                weight = network.get_parameter(f"{each}.weight")
                weight.grad = random_matrices(*weight.shape, seed=10 * step + each)
            optimizer.step(0.02)
    # Three steps of 0.02, whose directions are good to 1e-4 as above.
    torch.testing.assert_close(together.get_parameter(name), alone.get_parameter(name), rtol=0, atol=3 * 0.02 * 1e-4)


@pytest.mark.parametrize(
    ("settings", "shapes", "outputs", "hidden"),
    [
        (MlpSettings(hidden=(8, 6)), ((5,),), 3, {"hidden.0.weight", "hidden.1.weight"}),
        (CnnSettings(channels=(4, 6)), ((1, 8, 8),), 3, {"blocks.0.conv.weight", "blocks.1.conv.weight"}),
    ],
    ids=["mlp", "cnn"],
)
def test_the_head_biases_and_normalization_are_no_hidden_matrices(
    settings: NetworkSettings, shapes: tuple[tuple[int, ...], ...], outputs: int, hidden: set[str]
) -> None:
    assert set(hidden_matrices(build(settings, shapes, outputs))) == hidden


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings", [TransformerSettings(layers=2, width=16, heads=2), LstmSettings(hidden=16)], ids=str
)
def test_of_a_language_model_all_matrices_but_embedding_and_head_are_hidden(
    settings: TransformerSettings | LstmSettings, tied: bool
) -> None:
    changed = {"tied": tied} | ({"embedding": 16} if isinstance(settings, LstmSettings) else {})
    network = build(settings.model_copy(update=changed), ((8,),), 11)
    matrices = {name for name, each in network.named_parameters() if each.ndim > 1}
    left_out = {"embedding.weight"} | (set() if tied else {"head.weight"})
    assert left_out <= matrices
    assert set(hidden_matrices(network)) == matrices - left_out


class OwnNetwork(nn.Module):
    """No attribute `head`, a parameter of its own, and a last layer that shares the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.positions = nn.Parameter(torch.zeros(1, 3, 4))
        self.mix = nn.Linear(4, 4)
        self.turned = nn.ConvTranspose1d(4, 4, 2)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight


def test_a_network_without_a_head_ends_in_its_last_linear_layer() -> None:
    assert set(hidden_matrices(OwnNetwork())) == {"mix.weight"}


def test_what_is_no_hidden_matrix_moves_by_adamw_at_a_rate_that_moves_alike() -> None:
    settings = MuonSettings(lr=0.05, adamw=AdamWSettings(lr=2e-3, betas=(0.8, 0.9), weight_decay=0.1))
    ours, theirs = (nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    rest = ["0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    groups = [
        {"params": [theirs.get_parameter(name)], "weight_decay": 0.1 if name == "2.weight" else 0.0} for name in rest
    ]
    expected = torch.optim.AdamW(groups, betas=(0.8, 0.9), eps=1e-8)
    optimizer = make_optimizer(settings, ours)
    for step in range(15):
        for network in (ours, theirs):
            for number, name in enumerate(rest):
                parameter = network.get_parameter(name)
                parameter.grad = random_matrices(*parameter.shape, seed=100 * step + number)
        share = 1 / (1 + step)
        optimizer.step(0.05 * share)
        for group in expected.param_groups:
            group["lr"] = 2e-3 * share
        expected.step()
    for name in rest:
        # The same kernel's formula, rounded otherwise, over 15 steps.
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name), rtol=1e-5, atol=1e-6)


def test_muon_learns_where_plain_steps_crawl() -> None:
    """A linear map whose inputs differ a hundred times in size: the gradient's singular values do, too."""

    def loss_after(settings: MuonSettings | SgdSettings) -> float:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 1))
        layer = network.get_submodule("0")
        inputs = torch.randn(64, 8) * torch.logspace(0, -2, 8)
        wanted = inputs @ torch.randn(8, 8)
        optimizer = make_optimizer(settings, network)
        for step in range(200):
            loss: Tensor = (layer(inputs) - wanted).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(settings.lr * (1 - step / 200))
        return float(loss.detach())

    assert loss_after(MuonSettings(lr=0.1)) < 0.2 * loss_after(SgdSettings(lr=0.1))
