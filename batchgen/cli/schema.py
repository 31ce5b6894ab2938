"""`batchgen schema`: JSON Schemas of what batchgen reads."""

import click

from batchgen.cli.configured import is_typed
from batchgen.cli.known_models import known_models
from batchgen.cli.models import known
from batchgen.cli.reply import write_json
from batchgen.domain.errors import UsageError
from batchgen.manifests import DEFAULT_MODEL
from batchgen.manifests.manifest_schema import manifest_schema


@click.group("schema")
def command() -> None:
    """Print JSON Schemas, for editors that complete and check what is typed."""


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
