"""`batchgen models`: which models are known, what they take, and where more come from."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from batchgen.cli import common, service, tables
from batchgen.cli.known_models import folders, known_models, shown
from batchgen.domain.errors import (
    BatchgenError,
    Exit,
    Fault,
    ManifestError,
    ModelBlocked,
    OutputError,
    ProviderError,
    UsageError,
)
from batchgen.domain.jobs import Model
from batchgen.domain.models import Entry
from batchgen.domain.spelling import fold
from batchgen.domain.wording import usd
from batchgen.manifests import Catalog
from batchgen.manifests.catalog import Origin, Place
from batchgen.manifests.describing import Described, inputs_of
from batchgen.manifests.model_files import (
    as_data,
    checked_model,
    file_name,
    model_of,
    read_model,
    store_model,
    text_of,
)
from batchgen.manifests.names import ids_with
from batchgen.providers import names as provider_names
from batchgen.providers.interface import CatalogReader
from batchgen.settings import find_token

_PAGE = 100  # models
_MOST_MODELS = 10_000
_LONGEST_ABOUT = 60  # characters in a table


@click.group("models")
def command() -> None:
    """List, describe, add and fetch models: which inputs they take, what they cost."""


# -- list ------------------------------------------------------------------------------------------


@command.command("list", short_help="List the known models.")
@click.argument("word", required=False)
@common.json_option
def list_command(*, word: str | None, as_json: bool) -> int:
    """List the known models: yours, those that were fetched, those that ship with batchgen.

    WORD is looked for in ids and titles. Of one id, yours wins, then the fetched one.
    """
    catalog = known_models()
    found, broken = _parsed(catalog, word)
    if as_json:
        common.print_json(
            {
                "models": [_listed(model, catalog.places[model.id]) for model in found],
                "broken": [{"file": fault.file, "message": fault.message} for fault in broken],
            }
        )
        return Exit.MANIFEST if broken else Exit.SUCCESS
    if found:
        rows = [
            (
                model.id,
                model.title,
                _whence(catalog.places[model.id]),
                ", ".join(dict.fromkeys(model.media.values())) or "none",
                _price(model),
            )
            for model in found
        ]
        header = ("model", "title", "from", "media", "price")
        click.echo("\n".join(_table(rows, header)))
    else:
        click.echo(f"no model is called like {word}; `batchgen models list` shows all", err=True)
    if broken:
        raise ManifestError(broken)
    return Exit.SUCCESS


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> Iterator[str]:
    columns = [tables.Column(title) for title in header]
    flat = ([tables.one_line(cell) for cell in row] for row in rows)
    return tables.table(flat, columns, width=tables.terminal_width())


def _parsed(catalog: Catalog, word: str | None) -> tuple[list[Model], list[Fault]]:
    found, broken = [], list(catalog.broken)
    for name in catalog:
        try:
            model = catalog[name]
        except ManifestError as error:
            broken += error.faults
            continue
        if word is None or fold(word) in fold(f"{model.id} {model.title}"):
            found.append(model)
    return found, broken


def _listed(model: Model, place: Place) -> dict[str, Any]:
    return {
        "id": model.id,
        "title": model.title,
        "from": place.origin,
        "hides": list(place.hides),
        "fetched_at": common.iso(_written_ms(place)) if place.origin is Origin.FETCHED else None,
        "file": str(place.path),
        "price_usd": common.usd_number(model.price_micros),
        "price_unit": model.price_unit if model.price_micros is not None else None,
        "price_basis": model.price_basis or None,
        "media": dict(model.media),
    }


def _whence(place: Place) -> str:
    said: str = place.origin
    if place.origin is Origin.FETCHED:
        said = f"fetched {_age(time.time() - _written_ms(place) / 1000)} ago"
    return said + "".join(f", hides the {hidden} one" for hidden in place.hides)


def _written_ms(place: Place) -> int:
    try:
        return int(place.path.stat().st_mtime * 1000)
    except OSError:  # gone since
        return 0


def _age(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return common.plural(int(seconds // length), unit)
    return "less than a minute"


def _price(model: Model) -> str:
    if model.price_micros is None:
        return "unknown"
    price = f"{usd(model.price_micros)} {'a' if model.price_unit == 'second' else 'an'} "
    basis = f" ({model.price_basis})" if model.price_basis else ""
    return f"{price}{model.price_unit}{basis}"


# -- show ------------------------------------------------------------------------------------------


@command.command("show", short_help="Show one model's inputs, price and file.")
@click.argument("model_id", metavar="ID")
@common.json_option
def show_command(*, model_id: str, as_json: bool) -> None:
    """Show one model: its inputs with their values, its price, and where its file is."""
    catalog = known_models()
    model = known(catalog, model_id)
    place = catalog.places[model_id]
    inputs = inputs_of(model)
    if as_json:
        described = [{**vars(one), "friendly": one.friendly} for one in inputs]
        common.print_json(
            {
                **_listed(model, place),
                "seed": model.seed,
                "utf16_lengths": model.utf16_lengths,
                "inputs": described,
                "schema": model.schema,
            }
        )
        return
    click.echo(model.id if model.title == model.id else f"{model.id}\n{model.title}")
    click.echo(f"price: {_price(model)}")
    click.echo(f"from:  {_whence(place)}, {shown(place.path)}\n")
    rows = [
        (
            one.name,
            ", ".join(one.aliases),
            "required" if one.is_required else "",
            _with_unit(one, model),
            one.default,
            _short(one.about),
        )
        for one in inputs
    ]
    header = ("input", "also", "", "value", "default", "what it is")
    click.echo("\n".join(_table(rows, header)) if rows else "it takes no inputs")
    for one in inputs:
        for rule in one.rules:
            click.echo(f"\n{one.name}: {rule}" if rule == one.rules[0] else f"{one.name}: {rule}")
    if model.seed is None:
        click.echo("\nIt takes no seed: `seeds` cannot be used, `repeat` can.")


def _with_unit(one: Described, model: Model) -> str:
    is_text = "characters" in one.kind
    return f"{one.kind} (an emoji counts 2)" if is_text and model.utf16_lengths else one.kind


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_ABOUT else f"{text[: _LONGEST_ABOUT - 1]}…"


def known(catalog: Catalog, model_id: str) -> Model:
    """Return a model by its id.

    Raises:
        UsageError: If there is none, with the id that was probably meant.
        ManifestError: If its file is broken.
    """
    model = catalog.get(model_id)
    if model is None:
        raise UsageError(
            f"no model {model_id} is known: {ids_with(model_id, catalog)}`batchgen models list` "
            f"shows those that are, `batchgen models fetch {model_id}` asks the service for it"
        )
    return model


# -- add -------------------------------------------------------------------------------------------


@command.command("add", short_help="Add a model of your own.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "model_id", metavar="ID", help="The model's id; a plain schema has none.")
@click.option("--overwrite", is_flag=True, help="Replace a model of yours that has the same id.")
@common.json_option
def add_command(*, file: Path, model_id: str | None, overwrite: bool, as_json: bool) -> None:
    """Add a model of your own: its YAML, an entry of the service's catalog, or a JSON Schema.

    It is copied to your folder of models and wins over a shipped or fetched one of the same id.
    """
    model = read_model(file, model_id=model_id)
    if model.provider not in provider_names():
        known_ones = ", ".join(provider_names())
        message = f"there is no provider {model.provider}; known: {known_ones}"
        raise ManifestError([Fault(str(file), 0, "provider", message)])
    folder = folders().yours
    if folder is None:
        raise OutputError("there is no home folder to keep models in: set XDG_CONFIG_HOME")
    place = known_models().places.get(model.id)
    mine = place if place is not None and place.origin is Origin.YOURS else None
    if mine is not None and not overwrite:
        raise UsageError(
            f"you have added {model.id} before ({shown(mine.path)}): pass --overwrite to replace it"
        )
    path = _keep(folder, model, file if model_id is None else None)
    if mine is not None and mine.path != path:
        mine.path.unlink(missing_ok=True)
    if as_json:
        common.print_json({"id": model.id, "file": str(path), "replaced": mine is not None})
        return
    click.echo(model.id)
    click.echo(f"kept in {shown(path)}; `batchgen models show {model.id}` describes it", err=True)


def _keep(folder: Path, model: Model, source: Path | None) -> Path:
    # A model's own YAML is kept as it was written, comments included.
    if source is not None and source.suffix.lower() in (".yaml", ".yml"):
        return store_model(folder, file_name(model.id, ".yaml"), text_of(source))
    return store_model(folder, file_name(model.id, ".json"), _dump(model))


def _dump(model: Model) -> str:
    return json.dumps(as_data(model), ensure_ascii=False, indent=1) + "\n"


# -- fetch -----------------------------------------------------------------------------------------


@dataclass
class _Fetched:
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


@command.command("fetch", short_help="Fetch models from the service's catalog.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every model of the service's catalog.")
@click.option("--search", metavar="WORD", help="Those that the service finds for a word.")
@common.json_option
def fetch_command(
    *, ids: tuple[str, ...], everything: bool, search: str | None, as_json: bool
) -> int:
    """Fetch models from the service's catalog: their inputs, and its prices.

    They are kept in a cache, for each service by itself, until they are fetched again. Needs the
    token; nothing is paid for.
    """
    if bool(ids) + everything + bool(search) != 1:
        raise UsageError("say which: ids, --search WORD, or --all")
    folder = folders().fetched
    if folder is None:
        raise OutputError("there is no home folder to keep models in: set XDG_CACHE_HOME")
    found = service.configured()
    found.token = find_token()
    fetched = asyncio.run(_fetch(found, ids, search))
    kept = _keep_all(folder, fetched)
    if as_json:
        refused = [{"id": name, "message": problem} for name, problem in fetched.refused]
        common.print_json({"fetched": kept, "refused": refused, "folder": str(folder)})
    else:
        _tell(kept, fetched, folder, search)
    if fetched.refused and (ids or not kept):
        return Exit.HALTED
    return Exit.SUCCESS


class Unreadable(BatchgenError):
    """The service does not tell its catalog."""

    kind = "catalog_unreadable"
    exit_code = Exit.UNREACHABLE


async def _fetch(found: service.Service, ids: Sequence[str], search: str | None) -> _Fetched:
    reader = found.connect_catalog()
    fetched = _Fetched()
    try:
        if ids:
            await _fetch_each(reader, ids, fetched)
            return fetched
        async for page in _pages(reader, search):
            fetched.entries += page.entries
            fetched.refused += page.refused
    except ProviderError as error:
        if error.exit_code is not Exit.UNEXPECTED:
            raise
        raise Unreadable(
            f"the catalog could not be read ({error}): look at the network and "
            "RUNCOMFY_MODEL_API_BASE, then try again"
        ) from error
    finally:
        await reader.close()
    return fetched


async def _fetch_each(reader: CatalogReader, ids: Sequence[str], fetched: _Fetched) -> None:
    for name in dict.fromkeys(ids):
        try:
            fetched.entries.append(await reader.entry(name))
        except ModelBlocked as error:
            fetched.refused.append((name, f"{error}; `batchgen models fetch --search` finds ids"))


async def _pages(reader: CatalogReader, search: str | None) -> AsyncIterator[Any]:
    seen = 0
    while seen < _MOST_MODELS:
        page = await reader.entries(search=search, limit=_PAGE, offset=seen)
        yield page
        seen += page.seen
        if page.seen == 0 or (page.total is not None and seen >= page.total):
            return
        if page.total is None and page.seen < _PAGE:
            return


def _keep_all(folder: Path, fetched: _Fetched) -> list[dict[str, str | None]]:
    """Store what was fetched; what cannot be used joins what was refused."""
    before, shipped = known_models(), Catalog()
    kept = []
    for entry in fetched.entries:
        known_one = shipped[entry.id] if entry.id in shipped else None  # noqa: SIM401 - as snapshots
        model = model_of(entry, shipped=known_one)
        if not model.schema["properties"]:
            fetched.refused.append((entry.id, "its input_schema has no inputs"))
            continue
        try:
            checked_model(as_data(model), file=entry.id)
        except ManifestError as error:
            fetched.refused.append((entry.id, error.faults[0].message))
            continue
        name = file_name(entry.id, ".json")
        text = _dump(model)
        said = _compared(folder / name, text)
        store_model(folder, name, text)
        place = before.places.get(entry.id)
        is_hidden = place is not None and place.origin is Origin.YOURS
        kept.append({"id": entry.id, "is": said, "hidden_by": "yours" if is_hidden else None})
    return kept


def _compared(path: Path, text: str) -> str:
    try:
        return "as before" if path.read_bytes() == text.encode() else "changed"
    except OSError:
        return "new"


def _tell(
    kept: Sequence[dict[str, str | None]], fetched: _Fetched, folder: Path, search: str | None
) -> None:
    for one in kept:
        hidden = "; the one that you have added wins" if one["hidden_by"] else ""
        click.echo(f"{one['id']}: {one['is']}{hidden}")
    for name, problem in fetched.refused:
        click.echo(f"{name}: left out: {problem}", err=True)
    if not kept and not fetched.refused:
        click.echo(f"the service finds no model for {search or 'that'}", err=True)
    if kept:
        click.echo(f"{common.plural(len(kept), 'model')} kept in {shown(folder)}", err=True)
