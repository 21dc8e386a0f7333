"""Write the scripts: `python -m mlctl.cli.completions [FOLDER]`, into `completions` unless a folder is named."""

import sys
from pathlib import Path

from mlctl.cli.completions.scripts import scripts


def main() -> None:
    """Write every script into the folder, which is made if it is not there."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "completions")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
