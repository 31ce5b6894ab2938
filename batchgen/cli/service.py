"""The service that requests of an account go to: the real one, or the stand-in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from batchgen.cli import common
from batchgen.domain.errors import UsageError
from batchgen.library.service import Service, configured
from batchgen.providers.runcomfy import DEFAULT_BASE
from batchgen.settings import find_token
from batchgen.store import accounts
from batchgen.store.accounts import Account
from batchgen.store.transactions import Transaction

SIMULATED_ORIGIN = "simulator"
_SIMULATED_QUEUE_S = (0.0, 0.3)
_SIMULATED_RUN_S = (0.3, 2.0)


@contextmanager
def chosen(*, simulate: bool, dry_run: bool) -> Iterator[Service]:
    """Give the service that a run is for; the stand-in is served as long as it is needed.

    Raises:
        UsageError: If no token may go where the environment says.
    """
    if not simulate:
        yield configured()
        return
    if dry_run:
        yield Service(DEFAULT_BASE, SIMULATED_ORIGIN)
        return
    from batchgen.providers import simulator  # brings a web server with it

    settings = simulator.Settings(
        queue_s=_SIMULATED_QUEUE_S, run_s=_SIMULATED_RUN_S, recognise_earlier=True
    )
    with simulator.start_in_thread(settings, catalog=simulated_catalog()) as handle:
        yield Service(handle.base, SIMULATED_ORIGIN)


def simulated_catalog() -> Any:
    """Return what the stand-in says of models: all that ship with batchgen."""
    from batchgen import manifests  # a tenth of what `download` takes to start
    from batchgen.manifests import model_files
    from batchgen.providers import simulator

    models = manifests.load_models().values()
    return simulator.Catalog([model_files.entry_of(model) for model in models])


def for_command() -> Service:
    """Return the service of the command at work, with a token; the stand-in for `--simulate`.

    That one is served until the command ends.

    Raises:
        UsageError: If no token may go where the environment says.
        TokenMissing: If there is no token.
    """
    if common.is_simulated():
        context = click.get_current_context()
        return context.with_resource(chosen(simulate=True, dry_run=False))
    service = configured()
    service.token = find_token()
    return service


def find(tx: Transaction, account_name: str) -> tuple[Account, Service]:
    """Return an account that has jobs already, and its service with a token.

    Raises:
        UsageError: If there is no such account, or its jobs were paid at another service.
        TokenMissing: If there is no token.
    """
    account = accounts.find(tx, common.provider(), account_name)
    if account is None:
        raise UsageError(f"this job database has no account {account_name!r}: see --account")
    if not common.is_simulated():
        accounts.check_origin(account, configured().origin)
    return account, for_command()
