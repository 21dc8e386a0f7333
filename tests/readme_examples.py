"""The README's console examples: found, run, and written anew.

`python tests/readme_examples.py` runs every example of the README and replaces what it prints.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRESS = re.compile(r"^\S+ +(?:[a-z]+ [\d,]+/[\d,]+ |answers of |batch \d).*\n", re.MULTILINE)
"""Lines that only a slow machine shows."""
COLUMNS = "140"
"""The table of models is 133 wide."""


@dataclass(frozen=True)
class Example:
    """A command as it stands after `$ `, and what it prints on stdout and stderr together."""

    command: str
    output: str


def examples(readme: str) -> tuple[Example, ...]:
    """Every command of every console block, in order."""
    return tuple(example for block in _BLOCK.findall(readme) for example in _in_block(block))


def _in_block(block: str) -> Iterator[Example]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Example(command, output)


class Shell:
    """A folder with the repository's recipes in it, and a shell that finds `mlctl`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns(".mlctl"))
        command = folder / "bin" / "mlctl"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from mlctl.cli.main import main; main()" "$@"\n')
        command.chmod(0o755)

    def output(self, command: str) -> str:
        """What the command prints, progress left out."""
        left_out = ("CI", "GITHUB_ACTIONS", "MLCTL_STORE")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        environment |= {
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": COLUMNS,
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return _PROGRESS.sub("", done.stdout)


def rewritten(readme: str, shell: Shell) -> str:
    """The README with every example's output as it is now, and the recipe that it quotes."""

    def block(match: re.Match[str]) -> str:
        parts = (f"$ {each.command}\n{shell.output(each.command)}" for each in _in_block(match[1]))
        return "```console\n" + "".join(part.rstrip() + "\n" for part in parts) + "```"

    quoted = re.compile(r"(<!-- recipe: (\S+) -->\n```yaml\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
    readme = quoted.sub(lambda match: match[1] + (ROOT / match[2]).read_text(), readme)
    return _BLOCK.sub(block, readme)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        README.write_text(rewritten(README.read_text(), Shell(Path(folder))))
