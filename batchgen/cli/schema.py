"""`batchgen schema`: JSON Schemas of what batchgen reads and of what it answers."""

import click

from batchgen.cli import answers
from batchgen.cli.configured import is_typed
from batchgen.cli.models import known
from batchgen.cli.reply import write_json
from batchgen.domain.errors import UsageError
from batchgen.domain.spelling import suggestion
from batchgen.library.known_models import known_models
from batchgen.manifests import DEFAULT_MODEL
from batchgen.manifests.manifest_schema import manifest_schema


@click.group("schema")
def command() -> None:
    """Print JSON Schemas: of manifests, for editors, and of all that --json answers."""


@command.command("manifest")
@click.option("--model", "model_id", metavar="ID", help=f"Of which model; else {DEFAULT_MODEL}.")
@click.option("--all", "everything", is_flag=True, help="Of any known model, for mixed manifests.")
def manifest_command(*, model_id: str | None, everything: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of a YAML manifest.

    Keep it in a file beside the manifest, and make this the manifest's first line:

    # yaml-language-server: $schema=manifest.schema.json
    """
    if everything and model_id and is_typed("model_id"):
        raise UsageError("--model and --all: keep one of them")
    catalog = known_models()
    if everything:
        models = [catalog[name] for name in catalog]
    else:
        models = [known(catalog, model_id or DEFAULT_MODEL)]
    fallback = DEFAULT_MODEL if everything else models[0].id
    write_json(manifest_schema(models, fallback=fallback))


@command.command("output")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
def output_command(*, words: tuple[str, ...]) -> None:
    """Print the JSON Schema (draft 2020-12) of what COMMAND answers with --json.

    COMMAND is as it is typed: `db check`. There are also those of a line of --events (event) and
    of --progress json (progress), of a sidecar, and of what all answers have (envelope). Without
    COMMAND, list them.
    """
    known_names = answers.names()
    if not words:
        click.echo("\n".join(known_names))
        return
    name = "-".join(" ".join(words).split())
    if name not in known_names:
        raise UsageError(
            f"there is no schema of {' '.join(words)}: {suggestion(name, known_names)}"
            "`batchgen schema output` lists them"
        )
    write_json(answers.schema(name))
