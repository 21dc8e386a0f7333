"""The completion script for zsh."""

from collections.abc import Iterable

from mlctl.cli.completions.grammar import Command, Grammar, Kind, Option, Value
from mlctl.cli.completions.recipe_steps import STEP_NAMES_AWK

_INTRODUCTION = """\
#compdef mlctl
# zsh completion for mlctl, made by `python -m mlctl.cli.completions`.
# TAB starts no Python: awk reads the step names out of the recipe."""

_READING = r"""_mlctl_recipes() {
  _path_files "$@" -g '*.(yaml|yml)(-.) *(-/)'
}

_mlctl_steps() {
  local -a steps expl
  steps=($(_mlctl_step_names))
  _wanted -V steps expl step compadd -a steps
}

_mlctl_overrides() {
  local -a steps expl
  steps=($(_mlctl_step_names))
  _wanted -V overrides expl override compadd -S '' -- ${^steps}.
}

# Prints the step names of the recipe on the line: the first argument before the cursor, or the word after it.
_mlctl_step_names() {
  local recipe=${(Q)${line[1]:-$words[CURRENT + 1]}}
  [[ $recipe == \~/* ]] && recipe=$HOME${recipe:1}
  [[ -f $recipe && -r $recipe ]] && LC_ALL=C awk '@AWK@' <$recipe 2>/dev/null
}""".replace("@AWK@", STEP_NAMES_AWK)

_ACTIONS = {
    Kind.RECIPE: "_mlctl_recipes",
    Kind.PATH: "_files",
    Kind.FOLDER: "_path_files -/",
    Kind.STEP: "_mlctl_steps",
    Kind.OVERRIDE: "_mlctl_overrides",
    Kind.ANYTHING: " ",
}


def zsh_script(grammar: Grammar) -> str:
    """The script, to lie as `_mlctl` in a folder of zsh's `fpath`."""
    return "\n\n".join((_INTRODUCTION, _main(grammar), _commands(grammar), _READING, '_mlctl "$@"\n'))


def _main(grammar: Grammar) -> str:
    specs = [_option_spec(option) for option in grammar.options]
    specs += ["':command:_mlctl_commands'", "'*::argument:->arguments'"]
    names_by_specs: dict[tuple[str, ...], list[str]] = {}
    for command in grammar.commands:
        names_by_specs.setdefault(_specs(command), []).append(command.name)
    cases = [
        f"    {' | '.join(names)})\n      {_arguments('_arguments -S', specs, 8)}\n      ;;"
        for specs, names in names_by_specs.items()
    ]
    lines = [
        "_mlctl() {",
        "  local curcontext=$curcontext state state_descr",
        "  local -a line",
        "  local -A opt_args",
        f"  {_arguments('_arguments -C -S', specs, 4)}",
        "  [[ $state == arguments ]] || return",
        "  case $words[1] in",
        *cases,
        "  esac",
        "}",
    ]
    return "\n".join(lines)


def _arguments(call: str, specs: Iterable[str], indent: int) -> str:
    return f" \\\n{' ' * indent}".join((call, *specs))


def _specs(command: Command) -> tuple[str, ...]:
    specs = [_option_spec(option) for option in command.options]
    specs += [f"':{_value(command.first)}'"] if command.first else []
    specs += [f"'*:{_value(command.later)}'"] if command.later else []
    return tuple(specs)


def _option_spec(option: Option) -> str:
    help_text = option.help.replace("[", "\\[").replace("]", "\\]")
    rest = f"[{help_text}]" + (f":{_value(option.value)}" if option.value else "")
    long = f"{option.long}=" if option.value else option.long
    if option.short is None:
        return _quoted(("*" if option.is_repeatable else "") + long + rest)
    return f"'({option.short} {option.long})'{{{option.short},{long}}}{_quoted(rest)}"


def _value(value: Value) -> str:
    action = f"({' '.join(value.choices)})" if value.kind is Kind.CHOICE else _ACTIONS[value.kind]
    return f"{value.name}:{action}"


def _commands(grammar: Grammar) -> str:
    lines = [f"    {_quoted(f'{command.name}:{command.help}')}" for command in grammar.commands]
    return "\n".join(
        [
            "_mlctl_commands() {",
            "  local -a commands=(",
            *lines,
            "  )",
            "  _describe -V -t commands command commands",
            "}",
        ]
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
