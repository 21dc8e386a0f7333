from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.engine.fingerprint import Identity, SourceFile
from mlctl.engine.stage import Step
from mlctl.recipe.loading import load_recipe
from mlctl.runtime.machine import Processor
from mlctl.stages import quantize
from mlctl.stages.assembly import assemble

RECIPE = """
mlctl: 1
name: golden
seed: 7
prepare:
  task: image-classification
  source: rows.csv
  image: {columns: "pixel_*", shape: [1, 8, 8], scale: 16}
  label: digit
train:
  model: {arch: cnn, channels: [32, 64]}
  epochs: 30
export: {}
eval: {}
quantize: {}
prune: {ratio: 0.5}
distill: {teacher: train}
quantize.qat: {method: qat}
"""
GOLDEN = {
    "prepare": "3184949ef8efa5e413966f5aad49b7fe8036a94266358171d65f410901c7ac86",
    "train": "851c79712108eca524045b455afcd691dac67d9eb042780bc4aebc74177cd4d9",
    "export": "765cca4ba689b6cb79205deaee37d12373c0a70ed90c454245b1328f568b7bfe",
    "eval": "a11cbb1e97c466fa0013d553fd84b6f61533db629c2b0096542acab6cf3da375",
    "quantize": "8113e9370189d23f0d63fd442235bb4d23bdcf17f25b79e2f296c2da0d396605",
    "prune": "081b6715f3fe65f52d47483b941af1efc2cedc5b04f6ba1a38bef82cfe5b07bd",
    "distill:teacher": "a66118ae4e5efe73da7a3f9833a8c58eefb0aca948158177aaf9937cf57e431b",
    "distill": "287268b6449e9ce28f0da98e597973075a539f2b2fb9ed6dafe9847e3deaf516",
    "quantize.qat": "3c4d92419ec3d8822987cbbac7b72903a2c58f2dbf679958d9fa9244654d177f",
}
"""Changed? Every store that anyone has is then made again: raise the stage's revision and say so in the changelog."""

ROWS = SourceFile("rows.csv", "0" * 64, 1)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Step[Any], ...]:
    folder = tmp_path_factory.mktemp("golden")
    (folder / "rows.csv").write_text("")
    (folder / "golden.yaml").write_text(RECIPE)
    return assemble(load_recipe(folder / "golden.yaml")).steps


def identity(step: Step[Any]) -> Identity:
    """The step's identity over inputs and a source that never change."""
    stage = step.stage
    inputs = {role: f"{number:064x}" for number, role in enumerate(sorted(stage.inputs()))}
    return Identity(stage.name, stage.revision, stage.settings(), inputs, (ROWS,) if stage.sources() else ())


@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_fingerprint_never_moves_by_accident(
    name: str, steps: tuple[Step[Any], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What integers are laid out for is a part of their identity.
    monkeypatch.setattr(quantize, "this_processor", lambda: Processor("any", 1, 1, ("avx512_vnni",)))
    found = {step.name: identity(step).fingerprint for step in steps}
    assert found[name] == GOLDEN[name]


BASE = Identity("train", 1, {"epochs": 3, "model": {"arch": "mlp", "hidden": [4]}}, {"data": "a" * 64}, (ROWS,))


def test_a_fingerprint_is_the_sha256_of_a_documented_text() -> None:
    """Worked out once with `printf '%s' TEXT | sha256sum`."""
    plain = Identity("s", 1, {"b": 1, "a": None}, {"data": "f"}, (SourceFile("x.csv", "d", 9),))
    # {"inputs":{"data":"f"},"revision":1,"settings":{"a":null,"b":1},"sources":[["x.csv","d"]],"stage":"s"}
    assert plain.fingerprint == "6e0f8be2079a4d33f7d516037279591a2893a461b1666e91a00a1164044b29f0"


def test_the_order_of_keys_is_irrelevant() -> None:
    turned = Identity("train", 1, {"model": {"hidden": [4], "arch": "mlp"}, "epochs": 3}, {"data": "a" * 64}, (ROWS,))
    assert turned.fingerprint == BASE.fingerprint


def test_a_tuple_and_a_list_are_the_same_setting() -> None:
    as_tuple = Identity("train", 1, {"epochs": 3, "model": {"arch": "mlp", "hidden": (4,)}}, BASE.inputs, (ROWS,))
    assert as_tuple.fingerprint == BASE.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        Identity("prune", 1, BASE.settings, BASE.inputs, BASE.sources),
        Identity("train", 2, BASE.settings, BASE.inputs, BASE.sources),
        Identity("train", 1, {**BASE.settings, "epochs": 4}, BASE.inputs, BASE.sources),
        Identity("train", 1, {**BASE.settings, "epochs": 3.0}, BASE.inputs, BASE.sources),
        Identity("train", 1, BASE.settings, {"data": "b" * 64}, BASE.sources),
        Identity("train", 1, BASE.settings, {"rows": "a" * 64}, BASE.sources),
        Identity("train", 1, BASE.settings, BASE.inputs, ()),
        Identity("train", 1, BASE.settings, BASE.inputs, (SourceFile("rows.csv", "1" * 64, 1),)),
        Identity("train", 1, BASE.settings, BASE.inputs, (SourceFile("other.csv", "0" * 64, 1),)),
    ],
)
def test_everything_that_decides_bytes_moves_the_fingerprint(other: Identity) -> None:
    assert other.fingerprint != BASE.fingerprint


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_setting_that_is_not_a_finite_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        _ = Identity("train", 1, {"lr": number}, {}, ()).fingerprint


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), values, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_shuffled_settings_have_one_fingerprint(settings: dict[str, Any], random: Any) -> None:
    keys = list(settings)
    random.shuffle(keys)
    shuffled = {key: settings[key] for key in keys}
    assert Identity("s", 1, shuffled, {}, ()).fingerprint == Identity("s", 1, settings, {}, ()).fingerprint


def test_where_the_recipe_lies_is_not_part_of_a_fingerprint(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text("")
        (tmp_path / name / "golden.yaml").write_text(RECIPE)
    one, other = (assemble(load_recipe(tmp_path / name / "golden.yaml")).steps for name in ("here", "there"))
    assert [identity(step).fingerprint for step in one] == [identity(step).fingerprint for step in other]
