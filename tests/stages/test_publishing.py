"""Which step is published, and what is run and judged before it is."""

from pathlib import Path

import pytest
from conftest import WHOLE

from mlctl.engine.plan import Life
from mlctl.errors import UsageError
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.recipe import Recipe
from mlctl.stages.assembly import assemble
from mlctl.stages.publishing import publication

TWO = WHOLE.replace(
    "export: {}\n", "export: {}\n\nquantize: {method: float16}\nquantize.small: {from: export}\n"
).replace("  - eval[export]", "  - eval[quantize]")


def read(folder: Path, text: str) -> tuple[Recipe, Life]:
    path = folder / "recipe.yaml"
    path.write_text(text)
    recipe = load_recipe(path)
    return recipe, assemble(recipe)


@pytest.mark.parametrize(
    ("serve", "step", "published"),
    [
        ("", None, "quantize.small"),
        ("serve: {}\n", None, "quantize.small"),
        ("serve: {from: export}\n", None, "export"),
        ("serve: {from: export}\n", "quantize", "quantize"),
    ],
)
def test_what_is_served_is_published_unless_a_step_is_named(
    tmp_path: Path, serve: str, step: str | None, published: str
) -> None:
    recipe, life = read(tmp_path, TWO + serve)
    found = publication(recipe, life, tmp_path, step=step)
    assert (found.model.name, found.name, found.data.name) == (published, "whole", "prepare")


def test_the_batch_is_the_one_that_the_recipe_serves(tmp_path: Path) -> None:
    recipe, life = read(tmp_path, TWO + "serve: {batching: {max_size: 8}}\n")
    assert publication(recipe, life, tmp_path).max_batch == 8


def test_all_that_judges_the_model_is_run_and_nothing_else(tmp_path: Path) -> None:
    recipe, life = read(tmp_path, TWO + "serve: {from: export}\n")
    wanted = publication(recipe, life, tmp_path).wanted(life)
    assert wanted == {"prepare", "train", "export", "quantize", "quantize.small", "eval"}
    without_eval = TWO.partition("eval:")[0]
    recipe, life = read(tmp_path, without_eval)
    assert publication(recipe, life, tmp_path, step="quantize").wanted(life) == {
        "prepare",
        "train",
        "export",
        "quantize",
    }


def test_a_label_that_is_named_twice_is_one_label(tmp_path: Path) -> None:
    recipe, life = read(tmp_path, WHOLE)
    assert publication(recipe, life, tmp_path, labels=["a", "b", "a"]).labels == ("a", "b")
    with pytest.raises(UsageError, match="cannot be a label"):
        publication(recipe, life, tmp_path, labels=["a", "4"])
