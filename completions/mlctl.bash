# bash completion for mlctl, made by `python -m mlctl.cli.completions`.
# TAB starts no Python: awk reads the step names out of the recipe.

# Sets what a command takes: its options, its first argument and those after it.
_mlctl_arguments_of() {
  case $1 in
    '') options='--version --help' first='choice run prepare train prune distill export quantize eval serve plan show init schema verify gc doctor inspect bench compare generate publish models promote rollback token debug' ;;
    run)
      options='--set --store --until --force --keep-going --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    prepare | distill | eval)
      options='--set --store --force --keep-going --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    train)
      options='--find-lr --output --nproc-per-node --nnodes --rdzv-endpoint --set --store --force --keep-going --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    prune)
      options='--sensitivity --output --set --store --force --keep-going --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    export | quantize)
      options='--from --data --output --set --store --force --keep-going --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    serve)
      options='--repository --step --name --host --port --grpc-port --workers --intra-op-threads --runtime --device --tokens --certificate --key --audit --selftest --set --store --force --threads --allow-code --json --quiet --debug --help' first='path' later='override' ;;
    plan)
      options='--set --store --until --force --json --debug --help' first='recipe' later='override' ;;
    show)
      options='--set --store --resolved --json --debug --help' first='recipe' later='override' ;;
    init)
      options='--output --target --debug --help' first='path' later='' ;;
    schema)
      options='--help' first='' later='' ;;
    verify)
      options='--resume --seed --set --store --device --threads --allow-code --json --quiet --debug --help' first='recipe' later='' ;;
    gc)
      options='--store --delete --debug --help' first='recipe' later='recipe' ;;
    doctor)
      options='--store --json --debug --help' first='' later='' ;;
    inspect)
      options='--nodes --open-size --json --debug --help' first='path' later='' ;;
    bench)
      options='--data --store --batch --threads --rounds --runtime --device --open-size --gate --json --junit --quiet --debug --help' first='path' later='path' ;;
    compare)
      options='--data --store --split --batch --rounds --runtime --device --allow-code --json --markdown --quiet --debug --help' first='path' later='path' ;;
    generate)
      options='--prompt --step --tokens --temperature --top-k --top-p --seed --set --store --device --threads --allow-code --json --quiet --debug --help' first='recipe' later='override' ;;
    publish)
      options='--to --as --name --step --again --set --store --force --device --threads --allow-code --json --junit --quiet --debug --help' first='recipe' later='override' ;;
    models)
      options='--json --debug --help' first='folder' later='anything' ;;
    promote | rollback)
      options='--as --repository --json --debug --help' first='anything' later='' ;;
    token)
      options='--tokens --model --admin --rate --expires --debug --help --json' first='choice create list revoke' later='anything' ;;
    debug)
      options='--data --store --rows --tolerance --all --allow-code --json --debug --help' first='choice parity' later='path' ;;
  esac
}

# Prints what an option of the command is given; nothing for a flag.
_mlctl_value_of() {
  case $1 in
    --set) echo 'override' ;;
    --store) echo 'folder' ;;
    --until) echo 'step' ;;
    --force) echo 'step' ;;
    --device)
      case $command in
        run | prepare | train | prune | distill | export | quantize | eval | verify | bench | compare | generate | publish) echo 'choice auto cpu cuda tensorrt' ;;
        serve) echo 'choice cpu cuda tensorrt' ;;
      esac
      ;;
    --threads) echo 'anything' ;;
    --junit) echo 'path' ;;
    --output | -o) echo 'path' ;;
    --nproc-per-node) echo 'anything' ;;
    --nnodes) echo 'anything' ;;
    --rdzv-endpoint) echo 'anything' ;;
    --from) echo 'path' ;;
    --data) echo 'recipe' ;;
    --repository) echo 'folder' ;;
    --step) echo 'step' ;;
    --name) echo 'anything' ;;
    --host) echo 'anything' ;;
    --port) echo 'anything' ;;
    --grpc-port) echo 'anything' ;;
    --workers) echo 'anything' ;;
    --intra-op-threads) echo 'anything' ;;
    --runtime)
      case $command in
        serve) echo 'choice onnxruntime openvino' ;;
        bench | compare) echo 'choice auto onnxruntime openvino' ;;
      esac
      ;;
    --tokens)
      case $command in
        serve | token) echo 'path' ;;
        generate) echo 'anything' ;;
      esac
      ;;
    --certificate) echo 'path' ;;
    --key) echo 'path' ;;
    --audit) echo 'path' ;;
    --target) echo 'anything' ;;
    --seed) echo 'anything' ;;
    --open-size) echo 'anything' ;;
    --batch) echo 'anything' ;;
    --rounds) echo 'anything' ;;
    --gate) echo 'anything' ;;
    --split) echo 'choice train validation test' ;;
    --prompt) echo 'anything' ;;
    --temperature) echo 'anything' ;;
    --top-k) echo 'anything' ;;
    --top-p) echo 'anything' ;;
    --to) echo 'folder' ;;
    --as) echo 'anything' ;;
    --model) echo 'anything' ;;
    --rate) echo 'anything' ;;
    --expires) echo 'anything' ;;
    --rows) echo 'anything' ;;
    --tolerance) echo 'anything' ;;
  esac
}

_mlctl() {
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
  [[ -f $recipe && -r $recipe ]] && LC_ALL=C awk '/^["\047]?(prepare|train|prune|distill|export|quantize|eval|serve)(\.[a-z0-9][a-z0-9_-]*)?["\047]?[ \t]*:([ \t\r]|$)/ {
      gsub(/["\047]|[ \t]*:.*/, ""); print
    }' <"$recipe" 2>/dev/null
}

complete -o nosort -F _mlctl mlctl
