"""Real shells that say what TAB offers."""

import os
import re
import select
import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "completions"
SECONDS = 30
PROMPT = "ready> "


def environment(folder: Path) -> dict[str, str]:
    """Little, with the commands of the folder `stubs` before all others, and a home beside the working directory."""
    path = f"{folder.parent / 'stubs'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder.parent / "home"), "TERM": "dumb", "COLUMNS": "200", "LC_ALL": "C.UTF-8"}


def printed(command: list[str], folder: Path) -> str:
    """Standard output of a shell that ended well and said nothing on standard error."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def offers_in(text: str) -> list[list[str]]:
    return [each.split("\n")[:-1] for each in text.split("\x1e")[:-1]]


def ask_bash(folder: Path, lines: tuple[str, ...]) -> list[list[str]]:
    """Calls the function as bash does, with words that end at = and : and < and >, quoted ones whole."""
    script = r"""
      source "$1"
      asked() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _mlctl
        [[ ${#COMPREPLY[@]} == 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
        printf '\x1e'
      }
    """
    words = r"[=:]+|[<>]+|(?:\\.|'[^']*'?|\"[^\"]*\"?|[^\s=:<>])+"
    for line in lines:
        found = re.findall(words, line) + ([""] if re.search(r"(?<!\\) $", line) else [])
        script += f"\nasked {shlex.join(found)}"
    return offers_in(printed(["bash", "--norc", "-c", script, "bash", str(SCRIPTS / "mlctl.bash")], folder))


def ask_fish(folder: Path, lines: tuple[str, ...]) -> list[list[str]]:
    """Asks the builtin that fish has for this."""
    script = "source $argv[1]; for line in $argv[2..]; complete -C $line; printf '\\x1e'; end"
    return offers_in(printed(["fish", "--no-config", "-c", script, str(SCRIPTS / "mlctl.fish"), *lines], folder))


# Every offer of zsh's completion functions goes through `compadd`.
ZSH_SESSION = r"""
fpath=($1 $fpath)
autoload -Uz compinit
compinit -D -u
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a found shown display
  zparseopts -E d:=display
  [[ -z $display ]] || shown=("${(@P)display[2]}")
  builtin compadd -A found -D shown "$@"
  local i
  for ((i = 1; i <= $#found; i++)); do print -r -- "${(Q)found[i]}"$'\t'"$shown[i]"; done
  builtin compadd "$@"
}
show_offers() {
  print -n $'\x02'
  zle offer
  print -n $'\x1e'
  BUFFER=
}
offer() { _main_complete; compstate[insert]= compstate[list]= }
zle -C offer list-choices offer
zle -N show_offers
bindkey '^I' show_offers
print -n $'\x1e'
"""
ZSH = r"""
zmodload zsh/zpty
zpty session 'PS1= zsh -f -i'
zpty -w session "unsetopt zle; source $1 $2; setopt zle"
zpty -r session said $'*\x1e'
for line in $argv[3,-1]; do
  zpty -w -n session "$line"$'\t'
  zpty -r session said $'*\x1e'
  print -rn -- "${said##*$'\x02'}"
done
zpty -d session
"""


def ask_zsh(folder: Path, lines: tuple[str, ...]) -> list[list[str]]:
    """Types into a zsh that says, from within its own completion system, what is offered."""
    session = folder.parent / "session.zsh"
    session.write_text(ZSH_SESSION)
    text = printed(["zsh", "-f", "-c", ZSH, "zsh", str(session), str(SCRIPTS), *lines], folder)
    return offers_in(text.replace("\r\n", "\n"))


ASK = {"bash": ask_bash, "zsh": ask_zsh, "fish": ask_fish}


def type_into(command: list[str], folder: Path, text: str) -> None:
    """Write the text on the shell's terminal when it shows its prompt, and wait for its end."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment(folder),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = new = heard(ours, process)
        while new and PROMPT.encode() not in said:
            new = heard(ours, process)
            said += new
        os.write(ours, text.encode())
        while heard(ours, process):
            pass
        os.close(ours)
        assert process.wait(SECONDS) == 0


def heard(terminal: int, process: subprocess.Popen[bytes]) -> bytes:
    """What the shell says next; nothing when it has ended."""
    if not select.select([terminal], [], [], SECONDS)[0]:
        process.kill()
        pytest.fail("the shell waits for more")
    try:
        return os.read(terminal, 4096)
    except OSError:  # the terminal has no other end any more
        return b""
