"""The completion script for fish."""

from mlctl.cli.completions.grammar import Command, Grammar, Kind, Option, Value
from mlctl.cli.completions.recipe_steps import STEP_NAMES_AWK

_INTRODUCTION = """\
# fish completion for mlctl, made by `python -m mlctl.cli.completions`.
# TAB starts no Python: awk reads the step names out of the recipe.
"""

_READING = r"""
# Prints the command and its arguments among these words of a line.
function __mlctl_arguments
    set -l is_value no
    set -l only_arguments no
    for word in $argv[2..]
        if test $is_value = yes
            set is_value no
        else if test $only_arguments = no -a "$word" = --
            set only_arguments yes
        else if test $only_arguments = no; and string match -q -- '-?*' $word
            contains -- $word @VALUED@
            and set is_value yes
        else
            printf '%s\n' $word
        end
    end
end

# Whether no command stands before the cursor.
function __mlctl_at_command
    test (count (__mlctl_arguments (commandline -opc))) = 0
end

# Whether one of these commands does.
function __mlctl_in
    set -l arguments (__mlctl_arguments (commandline -opc))
    set -q arguments[1]; and contains -- $arguments[1] $argv
end

function __mlctl_at_first
    test (count (__mlctl_arguments (commandline -opc))) = 1; and __mlctl_in $argv
end

function __mlctl_at_later
    test (count (__mlctl_arguments (commandline -opc))) -gt 1; and __mlctl_in $argv
end

function __mlctl_recipes
    __mlctl_paths | string match -r '.*(?:/|\.ya?ml)$'
end

function __mlctl_folders
    __mlctl_paths | string match '*/'
end

# Prints every path that begins with the word at the cursor, or with what follows its --option=.
function __mlctl_paths
    complete -C "'' "(string replace -r -- '^--[a-z-]+=' '' (commandline -ct))
end

# Prints the step names of the recipe on the line, each with the ending that is given.
function __mlctl_steps
    set -l recipe (__mlctl_arguments (commandline -opc))[2]
    set recipe (string replace -r '^~/' "$HOME/" -- "$recipe")
    test -f "$recipe" -a -r "$recipe"; or return
    for step in (LC_ALL=C awk '@AWK@' <$recipe 2>/dev/null)
        echo "$step$argv"
    end
end
"""

_OFFERS = {
    Kind.RECIPE: "-x -a '(__mlctl_recipes)'",
    Kind.PATH: "-r -F",
    Kind.FOLDER: "-x -a '(__mlctl_folders)'",
    Kind.STEP: "-x -a '(__mlctl_steps)'",
    Kind.OVERRIDE: "-x -a '(__mlctl_steps .)'",
    Kind.ANYTHING: "-x",
}


def fish_script(grammar: Grammar) -> str:
    """The script, to lie as `mlctl.fish` among fish's completions."""
    valued = " ".join(" ".join(spellings) for spellings in grammar.values())
    reading = _READING.replace("@VALUED@", valued).replace("@AWK@", STEP_NAMES_AWK.replace("\\", "\\\\"))
    lines = ["complete -c mlctl -f"]
    lines += [_option("__mlctl_at_command", option) for option in grammar.options]
    lines += [_line("__mlctl_at_command", f"-a {each.name} -d {_quoted(each.help)}") for each in grammar.commands]
    lines += _arguments(grammar.commands)
    for option in dict.fromkeys(option for command in grammar.commands for option in command.options):
        lines.append(_option(f"__mlctl_in {' '.join(grammar.with_option(option))}", option))
    return f"{_INTRODUCTION}{reading}\n" + "\n".join(lines) + "\n"


def _arguments(commands: tuple[Command, ...]) -> list[str]:
    names: dict[tuple[str, Value], list[str]] = {}
    for command in commands:
        for place, value in (("first", command.first), ("later", command.later)):
            if value:
                names.setdefault((f"__mlctl_at_{place}", value), []).append(command.name)
    return [_line(" ".join((condition, *found)), _offer(value)) for (condition, value), found in names.items()]


def _option(condition: str, option: Option) -> str:
    short = f"-s {option.short[1:]} " if option.short else ""
    value = f" {_offer(option.value)}" if option.value else ""
    return _line(condition, f"{short}-l {option.long[2:]}{value} -d {_quoted(option.help)}")


def _offer(value: Value) -> str:
    return f"-x -a '{' '.join(value.choices)}'" if value.kind is Kind.CHOICE else _OFFERS[value.kind]


def _line(condition: str, rest: str) -> str:
    return f"complete -c mlctl -n '{condition}' {rest}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
