"""Completion in shells: click's, but for Bash, which breaks the names of models at their colons."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from headrace.cli import COMPLETE, PROGRAM

# Of a word such as lfm2:8, Bash replaces what follows the colon alone: that much of a reply is what it gets.
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} completion type value
    local typed=${line##*[[:space:]]}
    [[ $COMP_WORDBREAKS == *=* ]] && typed=${typed##*=}
    if [[ $COMP_WORDBREAKS == *:* && $typed == *:* ]]; then typed=${typed%%"${typed##*:}"}; else typed=; fi

    for completion in $(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("${value:${#typed}}") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Is given the line up to the cursor, in COMP_WORDS, and takes it apart itself."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = words.pop() if len(words) > 1 and not line[-1].isspace() else ""
        return words[1:], incomplete


SHELLS: Final[Mapping[str, type[ShellComplete]]] = MappingProxyType(
    {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}
)


def script(shell: str, group: click.Command) -> str:
    """What a shell is to run, once, to complete from then on."""
    return SHELLS[shell](group, {}, PROGRAM, COMPLETE).source()


def register() -> None:
    """For click, which looks up who answers a shell."""
    add_completion_class(Bash)
