"""visiontl completion"""

from __future__ import annotations

import argparse

from visiontl.errors import ConfigError, did_you_mean
from visiontl.signatures import lazy
from visiontl.task import Command

# Bash takes = and : for the ends of words and replaces only what follows them.
BASH = """_visiontl() {
    local line="${COMP_LINE:0:COMP_POINT}" i
    local word="${line##*[[:space:]]}"
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" completion --line "$line" 2>/dev/null)
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]="${COMPREPLY[i]#"${word%"${word##*[=:]}"}"}"
    done
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace; fi
}
complete -F _visiontl visiontl
"""
ZSH = """#compdef visiontl
_visiontl() {
    local -a found
    found=("${(@f)$(visiontl completion --line "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*[=/]}
    compadd -Q -- ${found:#*[=/]}
}
compdef _visiontl visiontl
"""
FISH = """complete -c visiontl -f -a '(visiontl completion --line (commandline -cp | string collect) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
USE = """bash: source <(visiontl completion bash), in ~/.bashrc
zsh:  source <(visiontl completion zsh), in ~/.zshrc after compinit
fish: visiontl completion fish | source, in ~/.config/fish/config.fish"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", nargs="?", help=" | ".join(SCRIPTS))
    parser.add_argument("--line", help=argparse.SUPPRESS)  # what the scripts ask with: the line up to the cursor


candidates_of = lazy("visiontl.commands.candidates:candidates")  # which itself needs all commands


def run(given: argparse.Namespace) -> None:
    if given.line is not None:
        print(*candidates_of(given.line), sep="\n")
        return
    if given.shell is None:
        raise ConfigError(f"which shell? visiontl completion {' | '.join(SCRIPTS)}")
    if given.shell not in SCRIPTS:
        raise ConfigError(f"no script for the shell {given.shell!r}{did_you_mean(given.shell, SCRIPTS)}")
    print(SCRIPTS[given.shell], end="")


COMMAND = Command("completion", "print a script that completes commands in a shell", arguments, run, USE)
