"""`batchgen balance`: what the account holds."""

import asyncio

import click

from batchgen.cli import common, service
from batchgen.domain.errors import BatchgenError, Exit, ProviderError
from batchgen.domain.wording import usd


@click.command("balance")
@common.json_option
@common.simulate_option("Of the built-in stand-in: no token, no money.")
def command(*, as_json: bool) -> None:
    """Print what the account of the token holds; one wallet pays for everything at RunComfy.

    No job database is needed. Exit code 6 if the token is refused, 12 if nothing answers.
    """
    found = service.for_command()
    micros = asyncio.run(_read(found))
    if as_json:
        common.print_json({"balance_usd": common.usd_number(micros), "origin": found.origin})
    else:
        click.echo(usd(micros))


class Unreadable(BatchgenError):
    """The service does not tell the balance."""

    kind = "balance_unreadable"
    exit_code = Exit.UNREACHABLE


async def _read(found: service.Service) -> int:
    provider = found.connect()
    try:
        return await provider.balance_micros()
    except ProviderError as error:
        if error.exit_code is Exit.TOKEN:
            raise
        raise Unreadable(
            f"the balance could not be read ({error}): look at the network and "
            "RUNCOMFY_MODEL_API_BASE, then try again"
        ) from error
    finally:
        await provider.close()
