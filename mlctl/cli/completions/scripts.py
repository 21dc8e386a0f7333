"""The one table of scripts."""

from mlctl.cli.completions.bash import bash_script
from mlctl.cli.completions.fish import fish_script
from mlctl.cli.completions.grammar import read_grammar
from mlctl.cli.completions.zsh import zsh_script


def scripts() -> dict[str, str]:
    """The text of every script, by the name of its file."""
    grammar = read_grammar()
    return {
        "mlctl.bash": bash_script(grammar),
        "_mlctl": zsh_script(grammar),
        "mlctl.fish": fish_script(grammar),
    }
