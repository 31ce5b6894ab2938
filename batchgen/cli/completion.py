"""`batchgen completion`: the script by which a shell completes commands."""

import click
from click.shell_completion import get_completion_class

from batchgen.cli.common import json_option, print_json
from batchgen.cli.completing import ASKED

_SHELLS = ("bash", "zsh", "fish")
_HOW = {
    "bash": 'in ~/.bashrc: eval "$(batchgen completion bash)"',
    "zsh": 'in ~/.zshrc: eval "$(batchgen completion zsh)"',
    "fish": "once: batchgen completion fish > ~/.config/fish/completions/batchgen.fish",
}
# Where nobody has loaded zsh's own completion yet, the script does.
_ZSH_FIRST = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
def command(*, shell: str, as_json: bool) -> None:
    """Print the script by which a shell completes commands, options, jobs and batches.

    Its first lines say where to put it. Nothing is completed that the job database would have
    to be changed or waited for.
    """
    script = _script(shell)
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script, nl=False)


def _script(shell: str) -> str:
    known = get_completion_class(shell)
    if known is None:
        raise LookupError(f"click knows no shell {shell}")
    made = known(click.Group(), {}, "batchgen", ASKED)
    script = made.source_template % made.source_vars()
    head = f"# Completion of batchgen for {shell}; {_HOW[shell]}\n"
    if shell != "zsh":
        return head + script
    first, _, rest = script.partition("\n")  # zsh looks for its own word in the first line
    return f"{first}\n{head}{_ZSH_FIRST}{rest}"
