"""`mlctl schema`: the recipe language for editors."""

import json
import sys


def schema() -> int:
    """Print the JSON Schema of recipes, for an editor's YAML server."""
    from mlctl.recipe.schema import schema as recipe_schema

    sys.stdout.write(json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0
