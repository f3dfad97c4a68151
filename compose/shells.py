"""pure: what makes a shell complete a program's words.

A shell runs `PROGRAM complete -- WORD...`: what the last word may become, one a line, with a tab
before what it means; no line: a file. A candidate that ends in a colon is not the whole word.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Bash takes `bb:1` and `--network=web` for three words, and replaces the last of them.
_BASH = """\
_PROGRAM() {
    local IFS=$'\\n' word glue last
    local -a words=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && ( -n $glue || $word == [:=]* ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == [:=] ]] && glue=1 || glue=
    done
    COMPREPLY=($(PROGRAM complete -- "${words[@]}" 2>/dev/null | cut -f1))
    last=${words[-1]}
    if [[ $last != "${COMP_WORDS[COMP_CWORD]}" ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${last%"${last##*[:=]}"}"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]] && compopt -o nospace
    [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default
    return 0
}
complete -F _PROGRAM PROGRAM
"""
_ZSH = """\
#compdef PROGRAM
_PROGRAM() {
    local -a found begun
    local line word
    for line in "${(@f)$(PROGRAM complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        word=${line%%$'\\t'*}
        if [[ $word == *: ]]; then
            begun+=("$word")
        elif [[ -n $word ]]; then
            found+=("${word//:/\\\\:}:${line#*$'\\t'}")
        fi
    done
    (( ${#begun} )) && compadd -S '' -a begun
    (( ${#found} )) && _describe PROGRAM found
    (( ${#begun} + ${#found} )) || _files
}
compdef _PROGRAM PROGRAM
"""
_FISH = """\
function __PROGRAM
    set -l words (commandline -opc) (commandline -ct)
    set -l found (PROGRAM complete -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c PROGRAM -f -a '(__PROGRAM)'
"""
SHELLS = ("bash", "zsh", "fish")


def completion_scripts(program: str) -> Mapping[str, str]:
    """Shell -> the script for it."""
    return MappingProxyType(
        {
            shell: text.replace("PROGRAM", program)
            for shell, text in zip(SHELLS, (_BASH, _ZSH, _FISH), strict=True)
        }
    )
