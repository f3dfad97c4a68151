"""`pycompose completion SHELL`: what makes a shell complete commands, options and services.

bash   source <(pycompose completion bash)
zsh    source <(pycompose completion zsh)
fish   pycompose completion fish | source
"""

from __future__ import annotations

from typing import Annotated

import typer

from compose.errors import UsageError

BASH = """\
_pycompose() {
    local IFS=$'\\n'
    COMPREPLY=($(pycompose complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
    [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default
}
complete -F _pycompose pycompose
"""
ZSH = """\
#compdef pycompose
_pycompose() {
    local -a found
    local line
    for line in "${(@f)$(pycompose complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( ${#found} )); then _describe pycompose found; else _files; fi
}
compdef _pycompose pycompose
"""
FISH = """\
function __pycompose
    set -l words (commandline -opc) (commandline -ct)
    pycompose complete -- $words[2..-1] 2>/dev/null
end
complete -c pycompose -a '(__pycompose)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def register(app: typer.Typer) -> None:
    @app.command("completion")
    def completion(
        shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish")],
    ) -> int:
        if shell not in SCRIPTS:
            raise UsageError(
                f"there is no completion for {shell!r}\n  hint: there is: {', '.join(SCRIPTS)}"
            )
        print(SCRIPTS[shell], end="")
        return 0
