"""mlxrun completion SHELL: a script that completes commands, flags and models, written from the parser itself.

    eval "$(mlxrun completion bash)"      in ~/.bashrc
    eval "$(mlxrun completion zsh)"       in ~/.zshrc
    mlxrun completion fish | source       in config.fish

Models are asked for as they are now, by `mlxrun completion models`.
"""

from __future__ import annotations

import argparse
import shlex

from .terminal import tell

HELP = "print a script that completes mlxrun's commands in bash, zsh or fish"
SHELLS = ("bash", "zsh", "fish")
MODELS = "models"  # what the scripts ask for

BASH = """_mlxrun() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands} $(mlxrun completion models 2>/dev/null)"
  else case "$command" in
{cases}
  *) words="{run}" ;;
  esac; [ "${{word#-}}" != "$word" ] || words="$(mlxrun completion models 2>/dev/null)"; fi
  local IFS=$' \\n'
  COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$word"; fi
}}
complete -o filenames -F _mlxrun mlxrun"""

ZSH = """(( $+functions[compdef] )) || {{ autoload -Uz compinit; compinit }}
_mlxrun() {{
  local -a known models
  models=(${{(f)"$(mlxrun completion models 2>/dev/null)"}})
  if (( CURRENT == 2 )); then
    known=({described})
    _describe command known
  else
    case "$words[2]" in
{cases}
    *) known=({run}) ;;
    esac
    compadd -- $known
  fi
  compadd -- $models
  _files
}}
compdef _mlxrun mlxrun"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=(*SHELLS, MODELS), metavar="SHELL", help="bash, zsh or fish")


def main(flags: argparse.Namespace) -> int:
    if flags.shell == MODELS:
        from ..settings import from_environment
        from ..store.resolve import list_installed

        tell(*(name for name, _ in list_installed(from_environment())))
        return 0
    print({"bash": bash, "zsh": zsh, "fish": fish}[flags.shell]())
    return 0


def commands() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Of each command its help, and its flags with theirs; read off the parser."""
    from . import build_parser

    (own,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help or "" for choice in own._choices_actions}
    found = {}
    for name, parser in own.choices.items():
        flags = [
            (flag, (action.help or "") if action.help != argparse.SUPPRESS else "")
            for action in parser._actions
            for flag in action.option_strings
            if flag.startswith("--")
        ]
        found[name] = (told.get(name, ""), flags)
    return found


def bash() -> str:
    found = commands()
    cases = "\n".join(
        f'  {name}) words="{" ".join(flag for flag, _ in flags)}" ;;' for name, (_, flags) in found.items()
    )
    run = " ".join(flag for flag, _ in found["run"][1])
    return BASH.format(commands=" ".join(found), cases=cases, run=run)


def zsh() -> str:
    found = commands()
    cases = "\n".join(
        f"    {name}) known=({' '.join(flag for flag, _ in flags)}) ;;" for name, (_, flags) in found.items()
    )
    run = " ".join(flag for flag, _ in found["run"][1])
    described = " ".join(shlex.quote(f"{name}:{told}") for name, (told, _) in found.items())
    return ZSH.format(described=described, cases=cases, run=run)


def fish() -> str:
    found = commands()
    lines = ["complete -c mlxrun -n __fish_use_subcommand -a '(mlxrun completion models)' -d model"]
    for name, (told, flags) in found.items():
        lines.append(f"complete -c mlxrun -n __fish_use_subcommand -a {name} -d {shlex.quote(told)}")
        seen = f"'__fish_seen_subcommand_from {name}'"
        lines.append(f"complete -c mlxrun -n {seen} -a '(mlxrun completion models)'")
        lines += [
            f"complete -c mlxrun -n {seen} -l {flag.removeprefix('--')} -d {shlex.quote(what)}" for flag, what in flags
        ]
    return "\n".join(lines)
