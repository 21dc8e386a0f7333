"""Vision transformers against the same arithmetic written out, and their two ways to attend."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.models import vit as module
from mlctl.models.table import build
from mlctl.models.vit import Vit, attend
from mlctl.recipe.networks import VitSettings

Tensors = dict[str, Tensor]
POOLS = ("mean", "token")


def vit(shape: tuple[int, int, int] = (3, 8, 8), outputs: int = 5, **changes: Any) -> Vit:
    """Two blocks of width 8 with 2 heads over 2x2 patches, unless `changes` to its settings say otherwise."""
    wanted = VitSettings.model_validate({"patch": 4, "width": 8, "layers": 2, "heads": 2, **changes})
    torch.manual_seed(1)
    made = build(wanted, (shape,), outputs)
    assert isinstance(made, Vit)
    return made


def lively(network: Vit) -> Vit:
    """The network with weights far enough from zero that every part moves the answer."""
    for each in network.parameters():
        nn.init.normal_(each, std=0.5)
    return network


def layer_norm(tokens: Tensor, tensors: Tensors, name: str) -> Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def dense(tokens: Tensor, tensors: Tensors, name: str) -> Tensor:
    return tokens @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def attended(tokens: Tensor, tensors: Tensors, name: str, heads: int) -> Tensor:
    """One head after another, each with its columns of the three products."""
    width = tokens.shape[-1]
    each = width // heads
    parts = dense(tokens, tensors, f"{name}.read")
    found = []
    for head in range(heads):
        query, key, value = (parts[..., part * width + head * each :][..., :each] for part in range(3))
        weights = torch.exp(query @ key.transpose(1, 2) / math.sqrt(each))
        found.append(weights / weights.sum(-1, keepdim=True) @ value)
    return dense(torch.cat(found, -1), tensors, f"{name}.merge")


def reference(network: Vit, image: Tensor, wanted: VitSettings) -> Tensor:
    """The network written out, one patch after another."""
    tensors = {name: each.double() for name, each in network.state_dict().items()}
    side = wanted.patch
    kernel = tensors["patches.weight"].flatten(1)
    patches = [
        image[:, :, top : top + side, left : left + side].flatten(1) @ kernel.T + tensors["patches.bias"]
        for top in range(0, image.shape[2], side)
        for left in range(0, image.shape[3], side)
    ]
    if wanted.pool == "token":
        patches.insert(0, tensors["token"].expand(len(image), -1))
    tokens = torch.stack(patches, 1) + tensors["positions"]
    for number in range(wanted.layers):
        block = f"blocks.{number}"
        normal = layer_norm(tokens, tensors, f"{block}.attention_norm")
        tokens = tokens + attended(normal, tensors, f"{block}.attention", wanted.heads)
        hidden = dense(layer_norm(tokens, tensors, f"{block}.dense_norm"), tensors, f"{block}.widen")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + dense(hidden, tensors, f"{block}.narrow")
    tokens = layer_norm(tokens, tensors, "norm")
    return dense(tokens[:, 0] if wanted.pool == "token" else tokens.mean(1), tensors, "head")


@settings(max_examples=20)
@given(
    pool=st.sampled_from(POOLS),
    patch=st.integers(1, 4),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    heads=st.integers(1, 4),
    expansion=st.integers(1, 4),
)
def test_answers_are_those_of_the_network_written_out(
    pool: str, patch: int, rows: int, columns: int, heads: int, expansion: int
) -> None:
    changes: dict[str, Any] = {"pool": pool, "patch": patch, "width": 2 * heads, "heads": heads, "expansion": expansion}
    shape = (2, rows * patch, columns * patch)
    network = lively(vit(shape, **changes)).double()
    image = torch.randn(3, *shape, dtype=torch.float64)
    wanted = VitSettings.model_validate({**changes, "layers": 2})
    # float64, and sums of at most a few dozen numbers near 1.
    torch.testing.assert_close(network(image), reference(network, image, wanted), rtol=1e-10, atol=1e-10)


def test_a_short_bfloat16_attention_on_a_cpu_is_written_out_and_answers_as_the_fused_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fused: list[int] = []
    kernel = functional.scaled_dot_product_attention

    def counted(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        fused.append(query.shape[2])
        return kernel(query, key, value)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(module, "SHORT", 20)
    for tokens, calls in ((20, []), (21, [21])):
        query, key, value = torch.randn(3, 2, 2, tokens, 8).to(torch.bfloat16).unbind(0)
        found = attend(query, key, value)
        assert fused == calls
        exact = kernel(query.double(), key.double(), value.double())
        # Means of at most 21 numbers near 1: three roundings to 8 bits, of scores up to about 4 and of the answer.
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=6 * 2.0**-8)
    attend(*torch.randn(3, 2, 2, 5, 8).unbind(0))
    assert fused == [21, 5]


@pytest.mark.parametrize("pool", POOLS)
def test_bfloat16_trains_and_answers_nearly_the_same(pool: str) -> None:
    network = vit(pool=pool, width=16)
    image = torch.randn(4, 3, 8, 8)
    expected = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
    found.float().square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())
    # Eight bits of every product, of answers that are no larger than 0.2.
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.005)


def test_patches_know_their_places_and_without_positions_they_do_not() -> None:
    network = lively(vit((1, 8, 8)))
    image = torch.randn(2, 1, 8, 8)
    turned = image.roll(4, 3)  # left patches and right ones change places
    assert not torch.allclose(network(image), network(turned), atol=1e-3)
    nn.init.zeros_(network.positions)
    torch.testing.assert_close(network(image), network(turned), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("patch", "shape", "fits"),
    [(4, (3, 8, 12), True), (3, (3, 8, 9), False), (5, (3, 5, 8), False), (9, (3, 8, 8), False)],
)
def test_a_patch_divides_both_sides(patch: int, shape: tuple[int, int, int], fits: bool) -> None:
    if fits:
        assert vit(shape, patch=patch)(torch.zeros(2, *shape)).shape == (2, 5)
        return
    with pytest.raises(StepFailed) as refusal:
        vit(shape, patch=patch)
    assert refusal.value.what == f"patches of {patch}x{patch} pixels do not fill images of {shape[1]}x{shape[2]}"
    assert "patch" in refusal.value.next


def test_what_is_no_image_is_refused_by_name() -> None:
    with pytest.raises(StepFailed, match=r"vit takes one image \[channels, height, width\], the data has \[64\]"):
        build(VitSettings(), ((64,),), 10)


def test_weights_start_small_and_cut_off_and_biases_at_zero() -> None:
    network = vit((3, 32, 32), width=64, pool="token")
    for name, each in network.named_parameters():
        if "norm" in name:
            assert set(each.tolist()) == {1.0 if name.endswith("weight") else 0.0}, name
        elif name.endswith("bias") or name == "token":
            assert not each.any(), name
        elif name != "head.weight":
            # Cut off at two deviations, a normal distribution keeps 0.88 of its own; 3,000 draws tell it to 1.3 %.
            assert each.std().item() == pytest.approx(0.88 * 0.02, rel=0.06), name
            assert each.abs().max().item() <= 0.04, name


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = (vit().state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_dropout_acts_in_training_only_behind_attention_and_dense_layers() -> None:
    network = vit(dropout=0.5)
    image = torch.randn(8, 3, 8, 8)
    assert not torch.equal(network.train()(image), network.train()(image))
    assert torch.equal(network.eval()(image), network.eval()(image))
    calls: list[int] = []
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(lambda *_: calls.append(1))
    network(image)
    assert len(calls) == 3 * 2  # for each of two blocks


@pytest.mark.parametrize("pool", POOLS)
def test_it_learns_images_by_heart(pool: str) -> None:
    network = vit(pool=pool, width=16).train()
    images, classes = torch.randn(16, 3, 8, 8), torch.arange(16) % 5
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # Guessing costs log(5) = 1.6; 7,000 weights have room for sixteen images.
    assert loss.item() < 0.2
