"""How the scripts learn a recipe's step names: by awk, since TAB starts no Python."""

from mlctl.recipe.loading import STEP_NAME
from mlctl.recipe.vocabulary import STAGE_SETTINGS

_STAGES = "|".join(STAGE_SETTINGS)

STEP_NAMES_AWK = rf"""/^["\047]?({_STAGES})(\.{STEP_NAME})?["\047]?[ \t]*:([ \t\r]|$)/ {{
      gsub(/["\047]|[ \t]*:.*/, ""); print
    }}"""
r"""An awk program without single quotes (\047 is one) that prints the step names of the recipe it reads."""
