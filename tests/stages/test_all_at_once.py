"""Settings, wiring and gates: whatever is wrong is said in one go."""

from pathlib import Path

import pytest

from mlctl.errors import RecipeError
from mlctl.recipe.loading import examine_recipe
from mlctl.stages.assembly import assemble_examined

RECIPE = """\
mlctl: 1
name: several
prepare:
  task: regression
  source: rows.csv
  features: {columns: [a, b]}
  target: y
train:
  epoch: 3
export: {}
eval: {}
gates:
  - eval[train].rmse <
  - prepare.rows >= 3
  - eval[export].rmse <= 1
  - export.parity <= 1
"""


def test_problems_of_settings_and_of_gates_come_together_and_cause_no_others(tmp_path: Path) -> None:
    path = tmp_path / "several.yaml"
    path.write_text(RECIPE)
    with pytest.raises(RecipeError) as refused:
        assemble_examined(examine_recipe(path))
    assert [(problem.line, problem.message.split(";")[0]) for problem in refused.value.problems] == [
        (9, "unknown key"),
        (13, "it ends where a number or a figure such as eval[train].accuracy should be"),
        (14, "no step measures prepare.rows"),
    ]
