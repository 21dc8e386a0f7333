from pathlib import Path
from typing import Any

import pytest

from mlctl.errors import RecipeError
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.overrides import overridden
from mlctl.recipe.tree import Place, place_at, plain
from mlctl.recipe.yaml_reader import read_tree

RECIPE = """\
name: x
train: {epochs: 3, model: {arch: cnn, channels: [8, 16]}}
export: &nothing
quantize: {calibration: &few {samples: 8}}
quantize.half: {method: float16}
eval: {latency: *few}
gates: [a, b]
"""


def changed(*overrides: str) -> Any:
    tree = read_tree(RECIPE, Place(1, 1, "r.yaml"))
    assert tree is not None
    return plain(overridden(tree, overrides))


def refusal(*overrides: str) -> str:
    with pytest.raises(RecipeError) as refused:
        changed(*overrides)
    return refused.value.what


def test_a_value_is_replaced_and_nothing_else() -> None:
    assert changed("train.epochs=5") == changed() | {"train": changed()["train"] | {"epochs": 5}}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.lr=1e-3", ("train", "lr"), 0.001),
        ("train.data=no", ("train", "data"), "no"),
        ("train.epochs=", ("train", "epochs"), None),
        ("train.epochs='3'", ("train", "epochs"), "3"),
        ("train.data=a=b", ("train", "data"), "a=b"),
        ("train.model={arch: mlp}", ("train", "model"), {"arch": "mlp"}),
        ("train.model.channels=[4]", ("train", "model", "channels"), (4,)),
        ("train.model.channels.1=4", ("train", "model", "channels"), (8, 4)),
        ("train.early_stopping.patience=2", ("train", "early_stopping"), {"patience": 2}),
        ("gates.0=c", ("gates",), ("c", "b")),
        ("export.opset=18", ("export",), {"opset": 18}),
        ("quantize.half.method=dynamic", ("quantize.half",), {"method": "dynamic"}),
        ("quantize.calibration.samples=9", ("quantize", "calibration", "samples"), 9),
        ("serve.port=1", ("serve",), {"port": 1}),
        ("export.again={}", ("export.again",), {}),
        ("export.again={from: train}", ("export.again",), {"from": "train"}),
        ("quantize.exclude={}", ("quantize", "exclude"), {}),
        ("quantize.exclud={}", ("quantize", "exclud"), {}),
    ],
)
def test_a_path_finds_its_value(override: str, path: tuple[str, ...], value: object) -> None:
    found = changed(override)
    for key in path:
        found = found[key]
    assert found == value


def test_a_new_step_can_be_told_more() -> None:
    assert changed("quantize.b={}", "quantize.b.method=dynamic")["quantize.b"] == {"method": "dynamic"}


def test_what_an_anchor_shares_is_changed_in_one_place_only() -> None:
    found = changed("eval.latency.samples=1")
    assert (found["eval"], found["quantize"]) == ({"latency": {"samples": 1}}, {"calibration": {"samples": 8}})


def test_an_overridden_value_is_placed_at_its_override() -> None:
    tree = read_tree(RECIPE, Place(1, 1, "r.yaml"))
    assert tree is not None
    after = overridden(tree, ["train.epochs=x"])
    assert place_at(after, ("train", "epochs")) == Place(0, 0, "--set train.epochs=x")
    assert place_at(after, ("train", "model", "arch")) == place_at(tree, ("train", "model", "arch"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train", "--set train: write it as PATH=VALUE, such as train.epochs=3"),
        ("=3", "--set =3: write it as PATH=VALUE, such as train.epochs=3"),
        ("train..epochs=3", "--set train..epochs=3: write it as PATH=VALUE, such as train.epochs=3"),
        ("train.epochs.x=3", "--set train.epochs.x=3: train.epochs: it is the number 3, so nothing in it can be set"),
        ("gates.2=c", "--set gates.2=c: gates: '2' is not an item of the list; there are 0 to 1"),
        ("gates.-1=c", "--set gates.-1=c: gates: '-1' is not an item of the list; there are 0 to 1"),
        ("train.epochs=[", "--set train.epochs=[: not YAML: "),
        ("train.epochs=!x 1", "--set train.epochs=!x 1: the tag '!x' is not read here; take it away"),
        ("train.data=\udcff", "--set train.data=\\udcff: the character U+DCFF cannot stand in YAML"),
        (f"{'x.' * 40}y=1", "nested more than 32 levels deep"),
    ],
)
def test_an_override_that_cannot_be_is_refused(override: str, message: str) -> None:
    assert message in refusal(override)


def test_the_problems_of_all_overrides_are_told_at_once() -> None:
    assert refusal("x", "gates.9=c", "train.epochs=4").count("\n") == 1


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mlctl: 1\nname: x\nexport: {}\n")
    with pytest.raises(RecipeError) as refused:
        load_recipe(path, ["export.opset=x", "export.opsett=3", "trian.epochs=3"])
    assert refused.value.what.splitlines() == [
        "--set export.opset=x: export.opset: expected a whole number, found the text 'x'",
        "--set export.opsett=3: export.opsett: unknown key; did you mean 'opset'?",
        "--set trian.epochs=3: trian: unknown key; did you mean 'train'?",
    ]


def test_many_large_overrides_cannot_outgrow_the_limit() -> None:
    items = ", ".join(["1"] * 15_000)
    assert "makes the recipe larger than 20,000 values" in refusal(f"a=[{items}]", f"b=[{items}]")
