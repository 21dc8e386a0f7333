"""Zeros that finetuning cannot move, and those that it makes."""

import os
import signal
import subprocess
import sys
from math import isclose
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_fits import CNN, Classification, NextToken, assert_same, is_text, small_model
from sparse_fits import AT_ONCE, BY_LAYER, FAST, GRADUAL, LIVES, PATTERN, WIDE, cut_model, finetune, zeros_of
from torch import Tensor, nn

from mlctl.compression.pruning.gradual import Gradual, scheduled_share, zeros_held
from mlctl.compression.pruning.held_zeros import KeepZeros
from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.compression.pruning.sparsity import prune_weights, sparsity_of
from mlctl.errors import Interrupted, StepFailed

CONSTANT = [name for name, (_, pruning, _) in LIVES.items() if pruning in (AT_ONCE, PATTERN)]
GROWING = [name for name in LIVES if name not in CONSTANT]
STEPS = 12  # 41 samples in batches of 16, four epochs


@pytest.fixture(autouse=True)
def _gentle_handlers() -> Any:
    previous = signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield
    signal.signal(signal.SIGTERM, previous)


class Killer(Classification):
    """Sends this process a signal at one of the calls of `loss`."""

    def __init__(self, at: int) -> None:
        self.left = at

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)
        return super().loss(outputs, targets)


class KillerOfTexts(Killer, NextToken):
    """The same for logits of tokens."""


@pytest.mark.parametrize("name", CONSTANT)
def test_what_was_cut_is_zero_after_every_step_and_all_else_learns(tmp_path: Path, name: str) -> None:
    network, pruning, changes = LIVES[name]
    model = cut_model(network, pruning)
    zeros = zeros_of(model)
    before = {each.name: each.parameter.detach().clone() for each in prunable_weights(model.network).weights}
    seen: list[float] = []

    def watch(done: float) -> None:
        seen.append(done)
        for key, here in zeros_of(model).items():
            assert here[zeros[key]].all(), key

    finetune(tmp_path, model, pruning, watch=watch, **changes)
    assert len(seen) == STEPS
    for each in prunable_weights(model.network).weights:
        values = each.parameter.detach()
        assert not values[zeros[each.name]].view(torch.int32).any(), "no bit is set, that of the sign neither"
        if not zeros[each.name].any():
            continue
        moved = (values != before[each.name])[~zeros[each.name]]
        # Weights of what ReLU has silenced do not learn.
        assert moved.float().mean() > 0.5


def test_without_them_the_same_training_would_move_the_zeros(tmp_path: Path) -> None:
    model = cut_model(CNN, AT_ONCE)
    before = sparsity_of(model.network).zeros
    finetune(tmp_path, model, AT_ONCE.model_copy(update={"protect": ("blocks",)}), optimizer=FAST)
    found = {layer.name: layer.zeros for layer in sparsity_of(model.network).layers}
    assert found["blocks.1.conv"] == 0
    assert found["head"] > 0
    assert sum(found.values()) < before / 2


@pytest.mark.parametrize("name", LIVES)
def test_interrupted_at_any_step_and_resumed_it_ends_in_the_same_bits(tmp_path: Path, name: str) -> None:
    network, pruning, changes = LIVES[name]
    expected = finetune(tmp_path / "whole", cut_model(network, pruning), pruning, **changes)
    kind = KillerOfTexts if is_text(network) else Killer
    for _ in range(STEPS - 1):  # at every step in turn, each on what the one before has left
        with pytest.raises(Interrupted):
            finetune(tmp_path / "parts", cut_model(network, pruning), pruning, kind(1), **changes)
    for step in (2, 5, 9):
        with pytest.raises(Interrupted):
            finetune(tmp_path / str(step), cut_model(network, pruning), pruning, kind(step), **changes)
        assert_same(finetune(tmp_path / str(step), cut_model(network, pruning), pruning, **changes), expected)
    assert_same(finetune(tmp_path / "parts", cut_model(network, pruning), pruning, **changes), expected)
    # Once more, with nothing left to do.
    assert_same(finetune(tmp_path / "parts", cut_model(network, pruning), pruning, **changes), expected)


@pytest.mark.parametrize("name", ["at once, with a mean", "gradual"])
def test_killed_in_a_step_a_validation_or_a_write_it_ends_in_the_same_bytes(tmp_path: Path, name: str) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    subprocess.run([sys.executable, here / "sparse_fits.py", tmp_path, name], env=environment, check=True)
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sum(int((each == 0).sum()) for each in load_file(tmp_path / "whole.safetensors").values()) > 0


@pytest.mark.parametrize("name", GROWING)
def test_zeros_follow_the_schedule_and_none_lives_again(tmp_path: Path, name: str) -> None:
    network, pruning, changes = LIVES[name]
    model = cut_model(network, pruning)
    last = {key: torch.zeros_like(each) for key, each in zeros_of(model).items()}
    shares: list[float] = []

    def watch(done: float) -> None:
        zeros = zeros_of(model)
        for key, each in zeros.items():
            assert each[last[key]].all(), "a zero lives again"
        last.update(zeros)
        found = sparsity_of(model.network)
        asked = scheduled_share(0.7, done)
        if pruning == GRADUAL:
            assert found.zeros == round(asked * found.weights)
        else:
            assert all(layer.zeros == round(asked * layer.weights) for layer in found.layers)
        shares.append(found.share)

    finetune(tmp_path, model, pruning, watch=watch, **changes)
    assert len(shares) == STEPS
    assert shares == sorted(shares)
    # In nine steps of twelve; the last two add less than a weight to layers this small.
    assert len(set(shares[:7])) == 7
    assert shares[8] == shares[-1] == pytest.approx(0.7, abs=0.02)


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_the_schedule_is_the_papers_in_hundredths(ratio: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= scheduled_share(ratio, low) <= scheduled_share(ratio, high) <= ratio
    exact = ratio * (1 - (1 - min(high / 0.75, 1)) ** 3)
    # The cubic's slope is 3 at most, and a hundredth is left out at most.
    assert exact - 0.03 * ratio - 1e-9 <= scheduled_share(ratio, high) <= exact + 1e-9
    assert scheduled_share(ratio, 0) == 0
    assert scheduled_share(ratio, 0.75) == scheduled_share(ratio, 1) == ratio
    assert isclose(scheduled_share(ratio, 0.375), 0.875 * ratio)


def test_zeros_are_made_where_weights_are_smallest_just_then() -> None:
    model = small_model(CNN)
    keep = Gradual(model.network, GRADUAL)
    sizes = torch.cat([each.parameter.detach().abs().flatten() for each in keep.weights])
    keep(0.3)
    zeros = torch.cat([each.parameter.detach().flatten() == 0 for each in keep.weights])
    assert sizes[zeros].max() < sizes[~zeros].min()
    assert int(zeros.sum()) == round(scheduled_share(0.7, 0.3) * len(sizes))
    with torch.no_grad():
        for each in keep.weights:
            each.parameter.add_(1.0)  # an optimizer that moves all, zeros too
    keep(0.3)
    assert torch.equal(torch.cat([each.parameter.detach().flatten() == 0 for each in keep.weights]), zeros)
    keep.close()


def test_a_weight_that_chance_made_zero_is_held_as_after_a_checkpoint() -> None:
    ways = []
    for is_resumed in (False, True):
        model = small_model(CNN)
        keep = Gradual(model.network, GRADUAL)
        keep(0.1)
        with torch.no_grad():
            model.network.get_parameter("head.weight")[0, :3] = 0.0
        keep(0.1)
        if is_resumed:
            state = {name: each.clone() for name, each in model.network.state_dict().items()}
            keep.close()
            model = small_model(CNN)
            keep = Gradual(model.network, GRADUAL)
            model.network.load_state_dict(state)
        with torch.no_grad():
            for each in keep.weights:
                each.parameter.add_(1.0)
        keep(0.2)
        keep.close()
        ways.append(model.network.state_dict())
    assert all(torch.equal(each, ways[1][name]) for name, each in ways[0].items())
    assert not ways[0]["head.weight"][0, :3].any()


def test_protected_layers_learn_freely(tmp_path: Path) -> None:
    pruning = BY_LAYER.model_copy(update={"protect": ("head",)})
    model = small_model(CNN)
    finetune(tmp_path, model, pruning, optimizer=FAST, keep_best=None)
    found = {layer.name: layer.zeros for layer in sparsity_of(model.network).layers}
    assert found["head"] == 0
    assert found["blocks.1.conv"] == round(0.7 * 6 * 4 * 9)


def test_the_weights_of_an_early_epoch_are_refused_for_their_few_zeros(tmp_path: Path) -> None:
    class Worse(Classification):
        """Every validation is worse than the one before, so that the first epoch is the best."""

        def __init__(self) -> None:
            self.count = 0.0

        def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
            self.count += 1
            return self.count, 0.5

    with pytest.raises(StepFailed) as refused:
        finetune(tmp_path, small_model(CNN), GRADUAL, Worse(), keep_best="loss")
    assert "and the ratio is 70.0%: they are of an epoch before the last" in refused.value.what
    assert "keep_best" in refused.value.next


class Stubborn(nn.Module):
    """Writes into its own weights when it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            self.layer.weight.add_(0.1)
        answer: Tensor = self.layer(rows)
        return answer


def test_zeros_that_the_networks_own_code_fills_are_found() -> None:
    network = Stubborn()
    with torch.no_grad():
        network.layer.weight[0] = 0.0

    def answered() -> None:
        with zeros_held(network, AT_ONCE) as keep:
            network(torch.zeros(1, 4))
            keep(0.5)
            network(torch.zeros(1, 4))

    with pytest.raises(StepFailed, match="are not zero any more, in layer"):
        answered()


def test_an_interrupted_training_is_not_checked_and_leaves_no_hook() -> None:
    network = small_model(CNN).network
    hooks: list[int] = []

    def stopped() -> None:
        with zeros_held(network, GRADUAL):
            hooks.extend(network._load_state_dict_post_hooks)
            raise KeyError

    with pytest.raises(KeyError):
        stopped()
    assert len(hooks) == 1
    assert not network._load_state_dict_post_hooks


def test_a_ratio_that_empties_a_small_layer_is_refused_before_any_step() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    with pytest.raises(StepFailed, match="would leave none in 1"):
        Gradual(network, BY_LAYER.model_copy(update={"ratio": 0.95}))
    assert sparsity_of(network).zeros == 0


def test_masks_follow_the_network_into_another_layout() -> None:
    model = small_model(WIDE)
    prune_weights(model, PATTERN, 0.5)
    zeros = zeros_of(model)
    keep = KeepZeros(model.network)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        for each in keep.weights:
            each.parameter.add_(1.0)
    keep(1.0)
    for each in keep.weights:
        assert torch.equal(each.parameter.detach() == 0, zeros[each.name])
    keep.check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_kind_of_float_is_cleared(dtype: torch.dtype) -> None:
    layer = nn.Linear(6, 4).to(dtype)
    with torch.no_grad():
        layer.weight[:, ::2] = 0.0
    keep = KeepZeros(layer)
    with torch.no_grad():
        layer.weight.sub_(1.0)
    keep(0.5)
    assert not layer.weight[:, ::2].any()
    assert layer.weight[:, 1::2].all()
