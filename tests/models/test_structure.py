"""What was kept of a network as a file, and networks that are built from it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlctl.errors import DataError
from mlctl.models.complete import InputScaling
from mlctl.models.files import ModelConfig, ModelInput, built, load_model, save_model
from mlctl.models.stateful import Stateful, state_form
from mlctl.models.structure import Axis, Kept, Structure, composed, restructured
from mlctl.recipe.networks import CnnSettings, LstmSettings, NetworkSettings, TransformerSettings
from mlctl.training.trained import fresh_model

IMAGES: Final = ModelConfig(
    task="image-classification",
    network=CnnSettings(channels=(4, 6)),
    inputs=(ModelInput("image", "float32", (1, 8, 8)),),
    outputs=3,
    input_scaling=(InputScaling(),),
    target_scaling=InputScaling(),
    labels=("a", "b", "c"),
)
NORM: Final = ("weight", "bias", "running_mean", "running_var")
NARROW: Final = Structure(
    kept=(
        Kept(
            (0, 2, 3),
            (
                Axis("blocks.0.conv.weight", 0),
                *(Axis(f"blocks.0.norm.{part}", 0) for part in NORM),
                Axis("blocks.1.conv.weight", 1),
            ),
        ),
    )
)
"""Without the second of four channels."""


def text_config(network: NetworkSettings) -> ModelConfig:
    return replace(
        IMAGES, task="language-modeling", network=network, inputs=(ModelInput("tokens", "int64", (6,)),), outputs=11
    )


def saved(folder: Path, config: ModelConfig) -> nn.Module:
    torch.manual_seed(5)
    network = built(config, None)
    save_model(folder, config, network, "f" * 64)
    return network.eval()


def test_a_pruned_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    config = replace(IMAGES, structure=NARROW)
    network = saved(tmp_path, config)
    found, restored = load_model(tmp_path)
    image = torch.randn(2, 1, 8, 8)
    assert found == config
    assert torch.equal(restored(image), network(image))
    assert restored.get_parameter("blocks.0.conv.weight").shape == (3, 1, 3, 3)


def test_the_file_says_what_was_kept_once_and_the_config_says_nothing(tmp_path: Path) -> None:
    saved(tmp_path, replace(IMAGES, structure=replace(NARROW, counters={}, removed=())))
    axes = [{"tensor": each.tensor, "axis": each.axis} for each in NARROW.kept[0].axes]
    assert json.loads((tmp_path / "structure.json").read_text(encoding="utf-8")) == {
        "kept": [{"indices": [0, 2, 3], "axes": axes}],
        "counters": {},
        "removed": [],
        "format": 1,
    }
    assert "structure" not in json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))


def test_a_whole_model_has_no_such_file(tmp_path: Path) -> None:
    saved(tmp_path, IMAGES)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert load_model(tmp_path)[0].structure is None


def test_fresh_weights_fill_the_same_structure() -> None:
    config = replace(IMAGES, structure=NARROW)
    network, again, whole = (
        fresh_model(each, seed, None).network for each, seed in ((config, 1), (config, 1), (IMAGES, 1))
    )
    name = "blocks.1.conv.weight"
    assert torch.equal(network.get_parameter(name), again.get_parameter(name))
    assert torch.equal(network.get_parameter(name), whole.get_parameter(name)[:, [0, 2, 3]])
    assert all(each.requires_grad for each in network.parameters())


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def first(content: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = content["kept"][0]
    return kept


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_text("{"), "not a model's structure: the text: Invalid JSON"),
        (edited(lambda content: content.update(more=1)), "more: Unexpected keyword argument"),
        (edited(lambda content: content.update(format=2)), "format: Input should be 1"),
        (
            edited(lambda content: first(content).update(indices=["0"])),
            "kept.0.indices.0: Input should be a valid integer",
        ),
        (edited(lambda content: first(content).update(indices=[])), "axis 0 of blocks.0.conv.weight keeps nothing"),
        (edited(lambda content: first(content).update(indices=[0, 0])), "keeps nothing, or not in order"),
        (edited(lambda content: first(content).update(indices=[-1, 0])), "keeps nothing, or not in order"),
        (
            edited(lambda content: first(content).update(indices=[1, 4])),
            "axis 0 of blocks.0.conv.weight has no index 4",
        ),
        (
            edited(lambda content: first(content)["axes"].append({"tensor": "stem", "axis": 0})),
            "there is no axis 0 of stem",
        ),
        (
            edited(lambda content: first(content)["axes"].append({"tensor": "head.bias", "axis": 1})),
            "there is no axis 1 of head.bias",
        ),
        (edited(lambda content: content["kept"].append(first(content))), "axis 0 of blocks.0.conv.weight is cut twice"),
        (
            edited(lambda content: content.update(counters={"head.heads": 1})),
            "there is no number head.heads to lower to 1",
        ),
        (edited(lambda content: content.update(counters={"training": 0})), "there is no number training"),
        (edited(lambda content: content.update(removed=["blocks.2"])), "blocks.2 is no member of a list"),
        (edited(lambda content: content.update(removed=["head"])), "head is no member of a list"),
    ],
)
def test_a_damaged_structure_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None], what: str) -> None:
    saved(tmp_path, replace(IMAGES, structure=NARROW))
    damage(tmp_path / "structure.json")
    with pytest.raises(DataError) as refusal:
        load_model(tmp_path)
    assert what in str(refusal.value)
    assert str(tmp_path / "structure.json") in str(refusal.value)


def test_a_config_that_holds_a_structure_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, IMAGES)
    edited(lambda content: content.update(structure={"kept": []}))(tmp_path / "config.json")
    with pytest.raises(DataError, match=r"structure: it stands in structure\.json"):
        load_model(tmp_path)


def test_weights_of_another_structure_do_not_fit(tmp_path: Path) -> None:
    saved(tmp_path, replace(IMAGES, structure=NARROW))
    (tmp_path / "structure.json").unlink()
    with pytest.raises(
        DataError, match=r"blocks\.0\.conv\.weight is float32 \[3, 1, 3, 3\], not float32 \[4, 1, 3, 3\]"
    ):
        load_model(tmp_path)


def test_tied_weights_stay_tied() -> None:
    network = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    head, embedding = network["head"], network["embedding"]
    assert isinstance(head, nn.Linear)
    assert isinstance(embedding, nn.Embedding)
    head.weight = embedding.weight
    restructured(network, Structure((Kept((1, 3), (Axis("embedding.weight", 1),)),)))
    assert head.weight is embedding.weight
    assert (head.in_features, head.out_features, embedding.embedding_dim) == (2, 5, 2)
    assert len(list(network.parameters())) == 1


def test_layers_with_different_numbers_of_heads_read_text_in_parts() -> None:
    config = text_config(TransformerSettings(width=24, heads=3, layers=2))
    network = built(config, None)
    structure = Structure(
        (
            Kept(tuple(range(8, 24)), (Axis("blocks.0.attention.output.weight", 1),)),
            Kept(tuple(i for i in range(72) if i % 24 >= 8), (Axis("blocks.0.attention.inputs.weight", 0),)),
        ),
        {"blocks.0.attention.heads": 2},
    )
    restructured(network, structure).eval()
    assert isinstance(network, Stateful)
    assert state_form(network).shape == (2, 1, 5, 0, 8)
    rows = torch.randint(0, 11, (2, 6))
    state, found = network.empty_state(2), []
    for part in rows.split([2, 1, 3], 1):  # type: ignore[no-untyped-call]
        logits, state = network.advance(part, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), network(rows), rtol=1e-5, atol=1e-5)


def test_a_smaller_recurrent_network_reads_text_in_parts() -> None:
    config = text_config(LstmSettings(embedding=4, hidden=5, layers=1))
    gates = tuple(gate * 5 + unit for gate in range(4) for unit in (0, 1, 4))
    rows = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    structure = Structure(
        (
            Kept(gates, tuple(Axis(f"body.{name}", 0) for name in rows)),
            Kept((0, 1, 4), (Axis("body.weight_hh_l0", 1), Axis("head.weight", 1))),
        )
    )
    network = restructured(built(config, None), structure).eval()
    assert isinstance(network, Stateful)
    assert network.empty_state(2).shape == (2, 1, 2, 3)
    tokens = torch.randint(0, 11, (2, 5))
    logits, state = network.advance(tokens[:, :3], network.empty_state(2))
    after, _ = network.advance(tokens[:, 3:], state)
    torch.testing.assert_close(torch.cat((logits, after), 1), network(tokens), rtol=1e-5, atol=1e-5)


class Listed(nn.Module):
    """Six layers of one shape, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(6))

    def forward(self, rows: Tensor) -> Tensor:
        for layer in self.layers:
            rows = rows + layer(rows)
        return rows


def test_what_is_taken_out_twice_is_named_as_in_the_original() -> None:
    torch.manual_seed(0)
    network = Listed()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cuts = (
        Structure(removed=("layers.1", "layers.4")),
        Structure(
            (Kept((0, 2), (Axis("layers.1.0.weight", 0), Axis("layers.1.0.bias", 0), Axis("layers.1.2.weight", 1))),)
        ),
        Structure(removed=("layers.0", "layers.3")),
        Structure(
            (Kept((1,), (Axis("layers.0.0.weight", 0), Axis("layers.0.0.bias", 0), Axis("layers.0.2.weight", 1))),)
        ),
    )
    whole = None
    for cut in cuts:
        restructured(network, cut)
        whole = composed(whole, cut)
    assert whole is not None
    assert whole.removed == ("layers.0", "layers.1", "layers.4", "layers.5")
    assert [each.indices for each in whole.kept] == [(2,)]
    assert {axis.tensor for axis in whole.kept[0].axes} == {"layers.2.0.weight", "layers.2.0.bias", "layers.2.2.weight"}
    once = Listed()
    once.load_state_dict(weights)
    restructured(once, whole)
    rows = torch.randn(4, 3)
    assert list(once.state_dict()) == list(network.state_dict())
    assert torch.equal(once(rows), network(rows))


def test_what_lies_in_a_part_that_goes_is_not_listed() -> None:
    indices = {Axis("layers.1.0.weight", 0): np.array([0]), Axis("layers.10.0.weight", 0): np.array([1])}
    found = Structure.of(indices, {"layers.1.heads": 2}, ["layers.1"])
    assert found == Structure((Kept((1,), (Axis("layers.10.0.weight", 0),)),), {}, ("layers.1",))


def test_nothing_changes_where_anything_does_not_fit() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    wrong = Structure((Kept((0, 1), (Axis("0.weight", 0),)), Kept((7,), (Axis("1.weight", 1),))))
    with pytest.raises(ValueError, match=r"axis 1 of 1\.weight has no index 7"):
        restructured(network, wrong)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("widths", [None, 5])
def test_attention_that_is_cut_answers_as_torchs_with_those_heads_at_zero(
    batch_first: bool, widths: int | None
) -> None:
    torch.manual_seed(2)
    other = widths or 6
    whole = nn.MultiheadAttention(6, 3, kdim=other, vdim=other, batch_first=batch_first).eval()
    network = nn.ModuleDict({"attention": whole})
    asking, asked = torch.randn(2, 4, 6), torch.randn(2, 4, other)
    padding = torch.tensor([[False, False, False, True], [False] * 4])
    scores = torch.randn(4, 4)
    if not batch_first:
        asking, asked = asking.transpose(0, 1), asked.transpose(0, 1)
    with torch.no_grad():
        whole.out_proj.weight[:, 2:4] = 0.0
    # torch wants both masks of one kind.
    masks = {"key_padding_mask": torch.zeros(2, 4).masked_fill(padding, float("-inf")), "attn_mask": scores}
    expected, shares = whole(asking, asked, asked, average_attn_weights=False, **masks)
    gone = (2, 3)
    places = (
        [("q_proj_weight", 1), ("k_proj_weight", 1), ("v_proj_weight", 1), ("in_proj_bias", 3)]
        if widths
        else [("in_proj_weight", 3), ("in_proj_bias", 3)]
    )
    kept = [
        Kept(tuple(i for i in range(6 * times) if i % 6 not in gone), (Axis(f"attention.{name}", 0),))
        for name, times in places
    ]
    kept.append(Kept((0, 1, 4, 5), (Axis("attention.out_proj.weight", 1),)))
    restructured(network, Structure(tuple(kept), {"attention.num_heads": 2}))
    found, after = network["attention"](asking, asked, asked, average_attn_weights=False, **masks)
    # Sums of 6 products in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after, shares[:, [0, 2]], rtol=1e-5, atol=1e-6)
