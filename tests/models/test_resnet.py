"""Residual networks against what He et al. 2016 say and against the same arithmetic written out."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.models.resnet import Residual, ResNet
from mlctl.models.resnet_plans import PLANS
from mlctl.models.table import build
from mlctl.recipe.networks import ResNetSettings

DEPTHS = tuple(get_args(ResNetSettings.model_fields["depth"].annotation))
Tensors = dict[str, Tensor]


def resnet(shape: tuple[int, int, int] = (3, 8, 8), outputs: int = 5, **changes: Any) -> ResNet:
    """A network of depth 8 and width 4, unless `changes` to its settings say otherwise."""
    wanted = ResNetSettings.model_validate({"depth": 8, "width": 4, **changes})
    torch.manual_seed(1)
    made = build(wanted, (shape,), outputs)
    assert isinstance(made, ResNet)
    return made


def parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def lively(network: nn.Module) -> nn.Module:
    """The network with normalizations that neither pass their input on nor leave it out."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return network


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_the_imagenet_networks_have_as_many_parameters_as_torchvisions(depth: int, published: int) -> None:
    with torch.device("meta"):
        assert parameters(resnet((3, 224, 224), 1000, depth=depth, stem="imagenet", width=None)) == published


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66)])
def test_the_small_networks_have_as_many_parameters_as_table_6_says(depth: int, published: float) -> None:
    network = resnet((3, 32, 32), 10, depth=depth, width=None)
    # The paper's small networks have shortcuts without parameters (option A), ours two with a 1x1 convolution.
    in_shortcuts = sum(parameters(part) for name, part in network.named_modules() if name.endswith("shortcut"))
    assert in_shortcuts == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert round((parameters(network) - in_shortcuts) / 1e6, 2) == published


def test_every_depth_of_the_recipe_has_a_plan_and_as_many_layers() -> None:
    assert sorted(PLANS) == sorted(DEPTHS)
    for depth in DEPTHS:
        with torch.device("meta"):
            parts = dict(resnet((3, 64, 64), depth=depth).named_modules())
        layers = [name for name, part in parts.items() if isinstance(part, nn.Conv2d | nn.Linear)]
        assert len([name for name in layers if "shortcut" not in name]) == depth


def normalized(image: Tensor, tensors: Tensors, name: str, *, is_training: bool) -> Tensor:
    axes = (0, 2, 3)
    if is_training:
        mean, variance = image.mean(axes), image.var(axes, correction=0)
    else:
        mean, variance = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
    centred = (image - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)
    return centred * tensors[f"{name}.weight"][:, None, None] + tensors[f"{name}.bias"][:, None, None]


def reference(network: ResNet, tensors: Tensors, image: Tensor, plan: list[int]) -> Tensor:
    """The network written out, nothing in place and pooling last; `plan` has the stride of every block."""

    def convolved(features: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = tensors[f"{name}.conv.weight"]
        features = functional.conv2d(features, kernel, stride=stride, padding=kernel.shape[2] // 2)
        return normalized(features, tensors, f"{name}.norm", is_training=network.training)

    is_large = tensors["stem.conv.weight"].shape[2] == 7
    features = torch.relu(convolved(image, "stem", 2 if is_large else 1))
    if is_large:
        features = functional.max_pool2d(features, 3, 2, padding=1)
    for number, stride in enumerate(plan):
        block = f"blocks.{number}"
        is_bottleneck = f"{block}.inner.1.conv.weight" in tensors
        found = torch.relu(convolved(features, f"{block}.inner.0", 1 if is_bottleneck else stride))
        if is_bottleneck:
            found = torch.relu(convolved(found, f"{block}.inner.1", stride))
        has_shortcut = f"{block}.shortcut.conv.weight" in tensors
        kept = convolved(features, f"{block}.shortcut", stride) if has_shortcut else features
        features = torch.relu(convolved(found, f"{block}.last") + kept)
    return features.mean((2, 3)) @ tensors["head.weight"].T + tensors["head.bias"]


KINDS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "three stages": ({"depth": 8}, [1, 2, 2]),
    "more blocks": ({"depth": 14}, [1, 1, 2, 1, 2, 1]),
    "four stages": ({"depth": 18}, [1, 1, 2, 1, 2, 1, 2, 1]),
    "bottlenecks": ({"depth": 50, "width": 2}, [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]),
    "imagenet": ({"depth": 18, "width": 2, "stem": "imagenet"}, [1, 1, 2, 1, 2, 1, 2, 1]),
}


@pytest.mark.parametrize("is_training", [False, True], ids=["at rest", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_gradients_are_those_of_the_network_written_out(kind: str, is_training: bool) -> None:
    changes, plan = KINDS[kind]
    side = 33 if kind == "imagenet" else 9
    network = resnet((3, side, side), **changes)
    lively(network).double()
    image = torch.randn(4, 3, side, side, dtype=torch.float64)
    network.train()(image)  # so that the running statistics mean something
    network.train(is_training)
    tensors = {name: each.detach().clone().requires_grad_(each.ndim > 0) for name, each in network.state_dict().items()}
    weights = {name: tensors[name] for name, _ in network.named_parameters()}
    expected = reference(network, tensors, image, plan)
    found = network(image)
    # float64: sums in another order differ in the last of 16 digits; fifty layers leave ten.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradients = torch.autograd.grad(expected.square().sum(), list(weights.values()))
    own = torch.autograd.grad(found.square().sum(), list(network.parameters()))
    for name, one, other in zip(weights, own, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7, msg=f"the gradient of {name} differs")


def test_the_layout_in_memory_changes_no_answer() -> None:
    network = lively(resnet()).eval()
    images = torch.randn(4, 3, 8, 8)
    expected = network(images)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # float32 sums of up to 144 products in another order.
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [8, 18, 50])
def test_every_block_starts_as_its_shortcut(depth: int) -> None:
    features = torch.randn(6, 4, 9, 9).relu()
    for block in resnet(depth=depth).blocks:
        assert isinstance(block, Residual)
        kept = features if block.shortcut is None else block.shortcut(features)
        found = block(features)
        torch.testing.assert_close(found, torch.relu(kept), rtol=0, atol=0)
        features = found.detach()


def test_convolutions_start_with_the_deviation_of_kaiming_and_normalizations_with_none() -> None:
    network = resnet((3, 32, 32), depth=20, width=32)
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            outwards = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
            # The deviation of 800 draws and more is known to 1 / sqrt(2 · 800) = 2.5 %; four times that.
            assert part.weight.std().item() == pytest.approx((2 / outwards) ** 0.5, rel=0.1), name
        if isinstance(part, nn.BatchNorm2d):
            assert set(part.weight.tolist()) == {0.0 if name.endswith("last.norm") else 1.0}, name
            assert not part.bias.any(), name


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = (resnet().state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


SMALLEST = [("cifar", 8, 3), ("cifar", 18, 5), ("cifar", 50, 5), ("imagenet", 8, 9), ("imagenet", 18, 17)]
"""Stem, depth, and the smallest side that has two pixels left when it is halved the last time."""


@settings(max_examples=30)
@given(
    kind=st.sampled_from(
        [("cifar", 8, 3), ("cifar", 18, 5), ("cifar", 50, 5), ("imagenet", 8, 9), ("imagenet", 18, 17)]
    ),
    taller=st.integers(0, 9),
    wider=st.integers(0, 9),
    channels=st.integers(1, 4),
)
def test_every_image_with_two_pixels_to_halve_is_taken_and_no_smaller_one(
    kind: tuple[str, int, int], taller: int, wider: int, channels: int
) -> None:
    stem, depth, least = kind
    height, width = least + taller, least + wider
    network = resnet((channels, height, width), 2, depth=depth, stem=stem, width=1).eval()
    assert network(torch.zeros(3, channels, height, width)).shape == (3, 2)
    for small in ((channels, least - 1, width), (channels, height, least - 1)):
        with pytest.raises(StepFailed, match=f"needs {least}x{least} pixels, the data has {small[1]}x{small[2]}"):
            resnet(small, 2, depth=depth, stem=stem, width=1)


@pytest.mark.parametrize(
    ("stem", "depth", "side", "advice"),
    [
        ("cifar", 18, 4, "choose a depth of three stages (8, 14, 20, ...) or a cnn"),
        ("cifar", 18, 2, "choose a cnn"),
        ("cifar", 8, 2, "choose a cnn"),
        ("imagenet", 18, 16, "choose `stem: cifar` or a depth of three stages (8, 14, 20, ...) or a cnn"),
        ("imagenet", 18, 8, "choose `stem: cifar` or a cnn"),
        ("imagenet", 18, 4, "choose `stem: cifar` and a depth of three stages (8, 14, 20, ...) or a cnn"),
        ("imagenet", 8, 8, "choose `stem: cifar` or a cnn"),
        ("imagenet", 8, 2, "choose a cnn"),
    ],
)
def test_only_what_helps_is_advised(stem: str, depth: int, side: int, advice: str) -> None:
    with pytest.raises(StepFailed) as refusal:
        resnet((1, side, side), 2, depth=depth, stem=stem, width=1)
    assert refusal.value.next == advice


def test_what_is_no_image_is_refused_by_name() -> None:
    with pytest.raises(StepFailed, match=r"resnet takes one image \[channels, height, width\], the data has \[64\]"):
        build(ResNetSettings(), ((64,),), 10)


def test_dropout_acts_in_training_only() -> None:
    network = resnet(dropout=0.5)
    image = torch.randn(8, 3, 8, 8)
    assert not torch.equal(network.train()(image), network.train()(image))
    assert torch.equal(network.eval()(image), network.eval()(image))


def test_it_learns_images_by_heart() -> None:
    network = resnet().train()
    images, classes = torch.randn(16, 3, 8, 8), torch.arange(16) % 5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # Guessing costs log(5) = 1.6; 5,000 weights have room for sixteen images.
    assert loss.item() < 0.2
