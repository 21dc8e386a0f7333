from pathlib import Path

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlctl.errors import RecipeError
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.resolved import resolved

DIGITS = Path(__file__).parent / "digits.yaml"

TEXTS = st.text(min_size=1, max_size=30) | st.sampled_from(
    ["1e3", "0o17", "yes", "null", "~", "#x", "a: b", "- a", " x ", "\n"]
)
OVERRIDES = st.one_of(
    st.floats(0, 1e300, exclude_min=True).map(lambda number: f"train.optimizer.lr={number!r}"),
    st.integers(0, 2**63 - 1).map(lambda number: f"seed={number}"),
    st.lists(st.integers(1, 2**53), min_size=1, max_size=40).map(lambda channels: f"train.model.channels={channels}"),
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda texts: "prepare.source=" + in_yaml(texts)),
    TEXTS.map(lambda text: "prepare.label=" + in_yaml(text)),
    TEXTS.map(lambda text: "gates.0=" + in_yaml(text)),
    st.sampled_from(
        [
            "quantize.method=qat",
            "quantize={method: weight-only, bits: 8}",
            "prune={method: n-of-m, finetune: null}",
            "prune={method: unstructured, ratio: 0.25, gradual: yes}",
            "prepare.split={column: part}",
            "eval.latency=null",
            "eval.metrics=null",
            "serve.workers=2",
            "train.keep_best=null",
            "export.again={from: train}",
        ]
    ),
)


def in_yaml(value: object) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=False, width=10**6))


def test_every_default_is_written_out() -> None:
    lines = resolved(load_recipe(DIGITS, ["train.schedule={name: cosine}"])).splitlines()
    assert lines[:4] == ["mlctl: 1", "name: digits", "seed: 7", "prepare:"]
    assert "  schedule: {name: cosine, warmup: 0.0, floor: 0.0}" in lines
    assert lines[lines.index("quantize.half:") + 1 :][:3] == ["  from: export", "  max_drop: null", "  exclude:"]


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    text = resolved(load_recipe(DIGITS, ["prepare.label='1e3'", "name='0x1'"]))
    assert "  label: '1e3'\n" in text
    assert "name: '0x1'\n" in text


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=st.lists(OVERRIDES, max_size=4))
def test_the_resolved_recipe_loads_as_an_equal_one(overrides: list[str], tmp_path: Path) -> None:
    try:
        recipe = load_recipe(DIGITS, overrides)
    except RecipeError:
        assume(False)
    path = tmp_path / "again.yaml"
    path.write_text(resolved(recipe), encoding="utf-8", newline="")
    again = load_recipe(path)
    assert again == recipe
    assert resolved(again) == resolved(recipe)


def test_recipes_that_ask_for_something_else_are_not_equal() -> None:
    assert load_recipe(DIGITS, ["seed=8"]) != load_recipe(DIGITS)


def test_the_path_and_the_layout_of_a_file_are_no_part_of_equality(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("# moved\n" + DIGITS.read_text())
    moved, recipe = load_recipe(path), load_recipe(DIGITS)
    assert moved.place("train") != recipe.place("train")
    assert moved == recipe
