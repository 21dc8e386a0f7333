"""What is cut from networks of many kinds against the same networks with those units at zero."""

import copy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_to_cut import NAMES, OURS, VOCABULARY, network_of
from torch import Tensor, nn
from torch.nn import functional

from mlctl.compression.pruning.dependencies import Dependencies, Indices, UnitGroup, dependencies, structure_of
from mlctl.graphs.export import BATCH, convert_open
from mlctl.graphs.flops import OPERATIONS_PER_MULTIPLY_ADD, work_of
from mlctl.graphs.shapes import shaped
from mlctl.models.complete import InputScaling
from mlctl.models.files import ModelConfig, ModelInput, load_model, save_model
from mlctl.models.structure import restructured

# Sums of some hundreds of products of numbers near 1, in another order: some tens of float32's 6e-8, through layers.
TOLERANCE = 1e-4

# torch says so of every such layer.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

every_network = pytest.mark.parametrize("name", NAMES)


def halves(groups: tuple[UnitGroup, ...], seed: int = 0) -> dict[str, Indices]:
    """About half of the units of every group, at random, ascending."""
    random = np.random.default_rng(seed)
    return {
        each.name: np.sort(random.choice(each.count, max(1, each.count // 2), replace=False)).astype(np.int64)
        for each in groups
    }


def zeroed(network: nn.Module, found: Dependencies, kept: Mapping[str, Indices]) -> nn.Module:
    """A copy of the whole network with all that belongs to units which are not kept at zero."""
    whole = copy.deepcopy(network)
    tensors = whole.state_dict()
    for group in found.groups:
        if group.name in kept:
            gone = np.setdiff1d(np.arange(group.count), kept[group.name])
            for place in group.places:
                tensors[place.tensor].index_fill_(place.axis, torch.from_numpy(place.indices[gone].ravel()), 0.0)
    return whole


def apart_from_norms(network: nn.Module, found: Dependencies) -> tuple[UnitGroup, ...]:
    """The groups that no layer or group normalization runs over: there, zeros count and what is gone does not."""
    norms = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm2d)
    over = {name for name, module in network.named_modules() if isinstance(module, norms)}
    return tuple(
        each
        for each in found.groups
        if not any(place.tensor.rpartition(".")[0] in over for place in each.places)
        and not any(path.rpartition(".")[0] in over for path in each.counters)
    )


def answers(network: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(rows)
    return found


@every_network
def test_what_is_cut_answers_as_the_whole_with_those_units_at_zero(name: str) -> None:
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    kept = halves(apart_from_norms(network, found))
    expected = answers(zeroed(network, found, kept), rows)
    assert expected.std() > 0.01
    cut = restructured(network, structure_of(network, found, kept))
    torch.testing.assert_close(answers(cut, rows), expected, rtol=TOLERANCE, atol=TOLERANCE)


@every_network
def test_every_group_at_half_leaves_shapes_that_fit(name: str) -> None:
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    assert found.groups
    before = {key: tensor.shape for key, tensor in network.state_dict().items()}
    shape = answers(network, rows).shape
    kept = halves(found.groups, 1)
    restructured(network, structure_of(network, found, kept))
    assert answers(network, rows).shape == shape
    lost: dict[tuple[str, int], int] = {}
    for group in found.groups:
        for place in group.places:
            where = (place.tensor, place.axis)
            lost[where] = lost.get(where, 0) + (group.count - len(kept[group.name])) * place.indices.shape[1]
    for key, tensor in network.state_dict().items():
        expected = [size - lost.get((key, axis), 0) for axis, size in enumerate(before[key])]
        assert list(tensor.shape) == expected, key


@every_network
def test_every_unit_lies_in_every_place_once(name: str) -> None:
    network, rows = network_of(name)
    tensors = network.state_dict()
    found = dependencies(network, (rows,))
    assert len({each.name for each in found.groups}) == len(found.groups)
    seen: dict[tuple[str, int], set[int]] = {}
    for group in found.groups:
        assert group.count > 1
        for place in group.places:
            indices = place.indices.ravel().tolist()
            taken = seen.setdefault((place.tensor, place.axis), set())
            assert len(set(indices)) == len(indices)
            assert not taken & set(indices)
            assert max(indices) < tensors[place.tensor].shape[place.axis]
            taken |= set(indices)


@every_network
def test_nothing_is_changed_by_looking(name: str) -> None:
    network, rows = network_of(name)
    network.train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    forwards = {module: "forward" in vars(module) for module in network.modules()}
    dependencies(network, (rows,))
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert {module: "forward" in vars(module) for module in network.modules()} == forwards


@every_network
def test_it_is_found_the_same_way_twice_and_can_be_cut_twice(name: str) -> None:
    network, rows = network_of(name)
    first, again = dependencies(network, (rows,)), dependencies(network, (rows,))
    assert [each.name for each in first.groups] == [each.name for each in again.groups]
    restructured(network, structure_of(network, first, halves(first.groups)))
    second = dependencies(network, (rows,))
    assert {each.name for each in second.groups} <= {each.name for each in first.groups}
    restructured(network, structure_of(network, second, halves(second.groups)))
    assert answers(network, rows).isfinite().all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_units_that_are_projected_stay_whole_for_torch_wants_them_to_be_more_than_their_answers(count: int) -> None:
    network, rows = network_of("projected lstm")
    found = dependencies(network, (rows,))
    cut = {(place.tensor, place.axis) for group in found.groups for place in group.places}
    assert ("body.weight_hr_l0", 0) in cut
    assert not cut & {("body.weight_ih_l0", 0), ("body.weight_hh_l0", 0), ("body.weight_hr_l0", 1)}
    restructured(network, structure_of(network, found, {each.name: np.arange(count) for each in found.groups}))
    assert answers(network, rows).shape == (len(rows), 3)


@pytest.mark.parametrize("name", OURS)
def test_a_cut_network_comes_back_from_its_files(name: str, tmp_path: Path) -> None:
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    structure = structure_of(network, found, halves(found.groups), found.blocks[-1:])
    restructured(network, structure)
    is_text = not rows.is_floating_point()
    config = ModelConfig(
        task="language-modeling" if is_text else "image-classification",
        network=OURS[name],
        inputs=(ModelInput("rows", "int64" if is_text else "float32", tuple(rows.shape[1:])),),
        outputs=VOCABULARY if is_text else 3,
        input_scaling=(InputScaling(),),
        target_scaling=InputScaling(),
        labels=(),
        structure=structure,
    )
    save_model(tmp_path, config, network, "f" * 64)
    restored, again = load_model(tmp_path)
    assert restored == config
    assert torch.equal(answers(again, rows), answers(network, rows))


def test_a_layer_that_cannot_be_cut_says_why() -> None:
    network, rows = network_of("flattened")
    assert dependencies(network, (rows,)).fixed == {"6": "is the network's answer"}
    assert dependencies(nn.Linear(3, 2), (torch.randn(2, 3),)).fixed == {"weight": "is the network's answer"}


class Added(nn.Module):
    """Vectors to which a table of fixed size is added, then one number for each."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 4)
        self.one = nn.Linear(4, 1)
        self.inner = nn.Linear(1, 4)
        self.strange = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, rows: Tensor) -> Tensor:
        added = self.enter(rows) + torch.arange(4.0)
        strange = self.strange(self.inner(torch.relu(self.one(added))))
        answers: Tensor = self.head(torch.cumsum(strange, 1))
        return answers


def test_every_reason_names_what_stands_in_the_way() -> None:
    found = dependencies(Added(), (torch.randn(2, 3),))
    assert found.fixed == {
        "enter": "is added to something of fixed size",
        "one": "has one unit alone",
        "strange": "goes through cumsum",
        "head": "is the network's answer",
    }
    assert [each.name for each in found.groups] == ["inner"]


def test_a_layer_whose_weights_are_computed_says_so() -> None:
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    network = nn.Sequential(computed, nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    found = dependencies(network, (torch.randn(2, 3),))
    assert [each.name for each in found.groups] == ["2"]
    assert found.fixed == {"0": "no operation reads its weights as they are", "4": "is the network's answer"}


class Unknown(nn.Module):
    """Goes through an operator that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = self.head(torch.linalg.pinv(self.enter(rows)).t())
        return answers


def test_an_operator_that_is_not_known_holds_what_goes_in() -> None:
    found = dependencies(Unknown(), (torch.randn(2, 3),))
    assert found.groups == ()
    assert found.fixed["enter"].endswith("which is not understood")


class Sized(nn.Module):
    """Holds a size of its own beside those of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.free, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 6), nn.Linear(6, 2)

    def forward(self, image: Tensor) -> Tensor:
        answers: Tensor = self.head(torch.relu(self.free(self.conv(image).view(-1, 144))))
        return answers


def test_a_network_that_holds_sizes_of_its_own_keeps_them() -> None:
    network = Sized().eval()
    found = dependencies(network, (torch.randn(2, 1, 8, 8),))
    assert [each.name for each in found.groups] == ["free"]
    assert found.fixed["conv"].startswith("the network does not run without some of its units: ")


class Numbered(nn.Module):
    """Holds the number of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))

    def forward(self, rows: Tensor) -> Tensor:
        for number in range(3):
            rows = rows + self.layers[number](rows)
        return rows


class Inner(nn.Module):
    """A linear layer with a shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = rows + self.inner(rows)
        return answers


def test_blocks_that_the_code_counts_stay() -> None:
    rows = torch.randn(2, 4)
    assert dependencies(nn.Sequential(Inner(), Inner()), (rows,)).blocks == ("0", "1")
    network = Numbered()
    for number in range(3):
        network.layers[number] = Inner()
    found = dependencies(network, (rows,))
    assert found.blocks == ()
    assert found.fixed["layers.0.inner"] == "is added to something of fixed size"


class Unnamed(nn.Module):
    """Attention whose number of heads stands in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.output = nn.Linear(6, 18), nn.Linear(6, 2)

    def forward(self, rows: Tensor) -> Tensor:
        queries, keys, values = self.inputs(rows).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        answers: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return answers


def test_heads_that_no_attribute_counts_are_named() -> None:
    found = dependencies(Unnamed(), (torch.randn(2, 4, 6),))
    assert found.groups == ()
    assert "no attribute (heads, num_heads, n_heads, …) says which part counts units" in found.fixed["inputs"]


@pytest.mark.parametrize(
    ("name", "heads"),
    [("vit", 3), ("vit with a token", 4), ("transformer", 4), ("tied transformer", 3), ("encoder", 3)],
)
def test_heads_are_units_with_all_their_vectors(name: str, heads: int) -> None:
    network, rows = network_of(name)
    groups = [each for each in dependencies(network, (rows,)).groups if each.kind == "heads"]
    assert len(groups) == 2
    for each in groups:
        assert (each.count, len(each.counters), each.counted) == (heads, 1, (1,))
        assert network.get_submodule(each.counters[0].rpartition(".")[0])


def test_shared_keys_are_units_of_which_each_counts_for_several_queries() -> None:
    network, rows = network_of("shared heads")
    (group,) = (each for each in dependencies(network, (rows,)).groups if each.kind == "heads")
    assert dict(zip(group.counters, group.counted, strict=True)) == {"num_heads": 2, "num_kv_heads": 1}


def test_a_residual_stream_is_one_group_named_after_its_first_layer() -> None:
    network, rows = network_of("resnet")
    found = dependencies(network, (rows,))
    (stem,) = (each for each in found.groups if each.name == "stem.conv")
    assert stem.kind == "channels"
    assert {(each.tensor, each.axis) for each in stem.places} == {
        *((f"stem.{part}", 0) for part in ("conv.weight", *NORM)),
        *((f"blocks.0.last.{part}", 0) for part in ("conv.weight", *NORM)),
        *((f"blocks.{name}.conv.weight", 1) for name in ("0.inner.0", "1.inner.0", "1.shortcut")),
    }


NORM = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("cnn", ()),
        ("resnet", ("blocks.0",)),
        ("bottleneck", tuple(f"blocks.{each}" for each in range(16) if each not in (0, 3, 7, 13))),
        ("transformer", ("blocks.0", "blocks.1")),
        ("vit", ("blocks.0", "blocks.1")),
        ("encoder", ("encoder.layers.0", "encoder.layers.1")),
        ("concatenation", ()),
        ("depthwise", ()),
    ],
)
def test_blocks_with_a_shortcut_can_go_whole(name: str, blocks: tuple[str, ...]) -> None:
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    assert found.blocks == blocks
    if blocks:
        shape = answers(network, rows).shape
        restructured(network, structure_of(network, found, {}, blocks[:1]))
        assert answers(network, rows).shape == shape
        assert dependencies(network, (rows,)).groups


@pytest.mark.parametrize("name", ["resnet", "vit with a token", "lstm", "tied transformer"])
def test_arithmetic_is_that_of_the_exported_graph(name: str) -> None:
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    restructured(network, structure_of(network, found, halves(found.groups)))
    after = dependencies(network, (rows,))
    proto = convert_open(
        network,
        example=(rows,),
        input_names=("rows",),
        output_names=("answers",),
        opset=20,
        dimensions={("rows", 0): BATCH, ("answers", 0): BATCH},
    )
    expected = work_of(shaped(proto)).flops // OPERATIONS_PER_MULTIPLY_ADD
    assert sum(each.multiply_adds for each in after.arithmetic) == expected


@pytest.mark.parametrize("name", OURS)
def test_arithmetic_follows_what_is_kept(name: str) -> None:
    """Of every operation: what is left of its weight, or of the group that it names."""
    network, rows = network_of(name)
    found = dependencies(network, (rows,))
    before = {key: tensor.numel() for key, tensor in network.state_dict().items()}
    kept = halves(found.groups)
    restructured(network, structure_of(network, found, kept))
    now = {key: tensor.numel() for key, tensor in network.state_dict().items()}
    whole = {each.name: each.count for each in found.groups}
    for first, second in zip(found.arithmetic, dependencies(network, (rows,)).arithmetic, strict=True):
        share = 1.0
        if first.tensor is not None:
            share = now[first.tensor] / before[first.tensor]
        elif first.group is not None:
            share = len(kept[first.group]) / whole[first.group]
        assert second.multiply_adds == pytest.approx(first.multiply_adds * share)


def test_torchs_compiler_is_not_imported() -> None:
    script = (
        "import sys, torch\n"
        "from mlctl.compression.pruning.dependencies import dependencies\n"
        "network = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\n"
        "assert dependencies(network, (torch.randn(2, 3, 8),)).groups\n"
        "print([each for each in sys.modules if each.startswith('torch._dynamo')])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_units_that_do_not_exist_are_refused() -> None:
    network, rows = network_of("cnn")
    found = dependencies(network, (rows,))
    for wrong in ([], [1, 0], [0, 0], [4], [-1, 0]):
        with pytest.raises(ValueError, match="has units 0 to 3, and keeps some of them in order"):
            structure_of(network, found, {"blocks.0.conv": np.array(wrong, np.int64)})
    with pytest.raises(ValueError, match="there is no group stem"):
        structure_of(network, found, {"stem": np.array([0])})
