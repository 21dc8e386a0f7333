"""The completion script for bash."""

from collections.abc import Iterator, Mapping

from mlctl.cli.completions.grammar import Grammar, Option, Value
from mlctl.cli.completions.recipe_steps import STEP_NAMES_AWK

_INTRODUCTION = """\
# bash completion for mlctl, made by `python -m mlctl.cli.completions`.
# TAB starts no Python: awk reads the step names out of the recipe."""

_COMPLETING = r"""_mlctl() {
  local IFS=$' \t\n' words=() at=0 kept='' word stem='' option='' command='' recipe='' place=0 only_arguments=''
  local options='' first='' later=''
  COMPREPLY=()
  _mlctl_read_words
  _mlctl_read_arguments
  _mlctl_arguments_of "$command"
  word=${words[at]}
  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == *[\<\>] ]]; then
    _mlctl_offer path
  elif [[ $option ]]; then
    _mlctl_offer $(_mlctl_value_of "$option")
  elif [[ $word == --*=* && ! $only_arguments ]]; then
    stem=${word%%=*}=
    _mlctl_offer $(_mlctl_value_of "${stem%=}")
  elif [[ $word == -* && ! $only_arguments ]]; then
    _mlctl_offer choice $options
  elif ((place < 2)); then
    _mlctl_offer $first
  else
    _mlctl_offer $later
  fi
}

# Sets `words` to what the command would get, `at` to the index of the word to complete, and `kept` to the beginning
# of that word which bash leaves alone: to bash, "--device=cpu" and "a:b" are three words each.
_mlctl_read_words() {
  local i piece previous=''
  for i in "${!COMP_WORDS[@]}"; do
    piece=${COMP_WORDS[i]}
    [[ $previous == [=:]* || ($i -gt 0 && $piece == [=:]*) ]] || words+=('')
    if ((i == COMP_CWORD)); then
      at=$((${#words[@]} - 1)) kept=${words[at]}
      [[ $piece == [=:]* ]] && kept+=$piece
    fi
    words[-1]+=$(_mlctl_unquoted "$piece")
    previous=$piece
  done
}

# Prints a word without its quotes and backslashes; expands nothing, runs nothing.
_mlctl_unquoted() {
  local i letter quote='' plain=''
  for ((i = 0; i < ${#1}; i++)); do
    letter=${1:i:1}
    case $quote$letter in
      \'\' | \"\") quote='' ;;
      \'?) plain+=$letter ;;
      \\ | \"\\) i=$((i + 1)) plain+=${1:i:1} ;;
      \' | \") quote=$letter ;;
      *) plain+=$letter ;;
    esac
  done
  printf '%s' "$plain"
}

# Sets `command`, `recipe`, and what stands at the cursor: the value of `option`, or the argument number `place`.
_mlctl_read_arguments() {
  local i option_before='' arguments=()
  for ((i = 1; i < ${#words[@]}; i++)); do
    if ((i == at)); then
      option=$option_before option_before='' place=${#arguments[@]}
    elif [[ $option_before ]]; then
      option_before=''
    elif [[ ${words[i]} == -- ]]; then
      only_arguments=yes
    elif [[ ${words[i]} == -?* && ! $only_arguments ]]; then
      [[ $(_mlctl_value_of "${words[i]}") ]] && option_before=${words[i]}
    else
      arguments+=("${words[i]}")
      ((i > at)) || command=${arguments[0]}
    fi
  done
  recipe=${arguments[1]-}
}

# Puts into COMPREPLY what can stand at the cursor and begins with what is there: `_mlctl_offer KIND [CHOICE...]`.
_mlctl_offer() {
  local step
  case ${1-} in
    choice) _mlctl_offer_words "${@:2}" ;;
    step) _mlctl_offer_words $(_mlctl_steps) ;;
    override)
      compopt -o nospace 2>/dev/null
      for step in $(_mlctl_steps); do _mlctl_offer_words "$step."; done
      ;;
    recipe) _mlctl_offer_paths '*.@(yaml|yml)' ;;
    path) _mlctl_offer_paths '*' ;;
    folder) _mlctl_offer_paths '' ;;
  esac
}

_mlctl_offer_words() {
  local each
  for each; do
    [[ $stem$each == "$word"* ]] && each=$stem$each && COMPREPLY+=("${each#"$kept"}")
  done
}

# Folders, and files that match the pattern; in a subshell, so that no `shopt` of the user's changes the answer.
_mlctl_offer_paths() {
  local path
  compopt -o filenames 2>/dev/null
  while IFS= read -r path; do
    _mlctl_offer_words "$path"
  done < <(
    typed=${word#"$stem"} home='' tilde=''
    [[ $typed == \~/* ]] && home=$HOME tilde='~' typed=$HOME${typed:1}
    shopt -s nullglob
    shopt -u failglob dotglob nocaseglob
    set +f
    for path in "$typed"*; do
      [[ -d $path || $path == $1 ]] && printf '%s\n' "$tilde${path#"$home"}"
    done
  )
}

# Prints the step names of the recipe on the line.
_mlctl_steps() {
  [[ $recipe == \~/* ]] && recipe=$HOME${recipe:1}
  [[ -f $recipe && -r $recipe ]] && LC_ALL=C awk '@AWK@' <"$recipe" 2>/dev/null
}
""".replace("@AWK@", STEP_NAMES_AWK)


def bash_script(grammar: Grammar) -> str:
    """The script, to be sourced by bash 4.4 or newer."""
    parts = (
        _INTRODUCTION,
        _arguments_of(grammar),
        _value_of(grammar.values()),
        _COMPLETING.strip("\n"),
        "complete -o nosort -F _mlctl mlctl\n",
    )
    return "\n\n".join(parts)


def _arguments_of(grammar: Grammar) -> str:
    names_by_arguments: dict[str, list[str]] = {}
    for command in grammar.commands:
        sets = f"options='{_long(command.options)}' first='{_offer(command.first)}' later='{_offer(command.later)}'"
        names_by_arguments.setdefault(sets, []).append(command.name)
    names = " ".join(command.name for command in grammar.commands)
    cases = [f"    '') options='{_long(grammar.options)}' first='choice {names}' ;;"]
    cases += [f"    {' | '.join(names)})\n      {sets} ;;" for sets, names in names_by_arguments.items()]
    head = "# Sets what a command takes: its options, its first argument and those after it."
    return "\n".join([head, "_mlctl_arguments_of() {", "  case $1 in", *cases, "  esac", "}"])


def _value_of(values: Mapping[tuple[str, ...], Mapping[Value, tuple[str, ...]]]) -> str:
    cases = [line for spellings, meant in values.items() for line in _value_case(" | ".join(spellings), meant)]
    head = "# Prints what an option of the command is given; nothing for a flag."
    return "\n".join([head, "_mlctl_value_of() {", "  case $1 in", *cases, "  esac", "}"])


def _value_case(spellings: str, meant: Mapping[Value, tuple[str, ...]]) -> Iterator[str]:
    if len(meant) == 1:
        yield f"    {spellings}) echo '{_offer(next(iter(meant)))}' ;;"
        return
    yield f"    {spellings})"
    yield "      case $command in"
    for value, names in meant.items():
        yield f"        {' | '.join(names)}) echo '{_offer(value)}' ;;"
    yield "      esac"
    yield "      ;;"


def _offer(value: Value | None) -> str:
    return " ".join((value.kind, *value.choices)) if value else ""


def _long(options: tuple[Option, ...]) -> str:
    return " ".join(option.long for option in options)
