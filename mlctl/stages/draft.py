"""draft"""

from pathlib import Path


def draft_recipe(data: Path, target: str | None, base: Path) -> str:
    return ""
