"""A recipe with every default, on stdout."""

import json
import sys

import yaml

from mlctl.recipe.recipe import Recipe
from mlctl.recipe.resolved import resolved


def show_resolved(recipe: Recipe, *, as_json: bool) -> None:
    """Print the recipe as YAML that loads again, or the same as JSON."""
    text = resolved(recipe)
    if as_json:
        text = json.dumps(yaml.safe_load(text), indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
