"""`batchgen simulate`: serve the stand-in for RunComfy's API on this machine."""

import ipaddress
from typing import Any

import click

from batchgen.cli.options import Number, Span, Usd, Whole
from batchgen.domain.errors import UsageError
from batchgen.settings import BASE_NAME, TOKEN_NAMES


@click.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback only.")
@click.option("--port", type=Whole(0, 65535), default=0, help="0 takes any free port.")
@click.option("--token", help="The one token that is good; without it any is.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of every draw.")
@click.option(
    "--queue-s", type=Span(), default="0", show_default=True, metavar="A-B", help="In the queue."
)
@click.option(
    "--run-s", type=Span(), default="2-5", show_default=True, metavar="A-B", help="Generating."
)
@click.option("--slots", type=Whole(min=1), help="How many generate at once.")
@click.option("--max-in-flight", type=Whole(min=1), help="More are refused with 429.")
@click.option("--submits-per-s", type=Whole(min=1), help="More are refused with 429.")
@click.option("--wallet", type=Usd(), help="What the account holds; without it, no end.")
@click.option("--price", type=Usd(), default="0.05", show_default=True, help="Of a second.")
@click.option("--charge-failed", is_flag=True, help="A failed generation costs too.")
@click.option("--outputs", type=Whole(1, 16), default=1, help="Clips of each request.")
@click.option("--clip-bytes", type=Whole(min=1), help="Pad clips to this size.")
@click.option("--link-life-s", type=Number(min=0), help="How long a clip's URL works.")
@click.option("--echo-inputs", is_flag=True, help="Results repeat the inputs.")
@click.option("--strict", is_flag=True, help="Refuse wrong inputs of known models.")
@click.option("--fail-rate", type=Number(0, 1), default=0.0, help="Share of failed generations.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[=RATE]",
    help="Another fault, always or at this rate, as drop_after=0.1; may be given again.",
)
def command(*, host: str, port: int, **wanted: Any) -> None:
    """Serve the stand-in for RunComfy's API until Ctrl-C: no money, the same faces.

    Jobs also show the fault that a prompt names: [[fault:generation]] fails, for one;
    docs/operations.md, "A rehearsal", lists the kinds. Its books, what it accepted and was
    paid, are at /ledger.
    """
    _check_loopback(host)
    from batchgen.cli.service import simulated_catalog
    from batchgen.providers import simulator  # the web server: only once it is wanted

    settings = _settings(wanted)

    def ready(base: str) -> None:
        click.echo(base)
        click.echo(f"export {BASE_NAME}={base}")
        token = "that token" if settings.token else "anything"
        click.echo(f"set {TOKEN_NAMES[0]} to {token}; Ctrl-C ends the service", err=True)

    try:
        ledger = simulator.serve(
            settings, host=host, port=port, catalog=simulated_catalog(), ready=ready
        )
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}): name another --port"
        ) from error
    count = len(ledger.entries)
    click.echo(f"{count} request{'' if count == 1 else 's'} accepted", err=True)


def _settings(wanted: dict[str, Any]) -> Any:
    from batchgen.providers import simulator

    fail_rate = wanted.pop("fail_rate")
    faults = [_fault(said) for said in wanted.pop("faults")]
    if fail_rate:
        faults.append(simulator.Fault(simulator.Kind.GENERATION, rate=fail_rate))
    outputs = wanted["outputs"]
    return simulator.Settings(
        wallet_micros=wanted.pop("wallet"),
        price_per_s_micros=wanted.pop("price"),
        output="object" if outputs == 1 else "videos",
        recognise_earlier=True,
        faults=tuple(faults),
        **wanted,
    )


def _fault(said: str) -> Any:
    from batchgen.providers import simulator

    kind, equals, rate = said.partition("=")
    if kind not in [*simulator.Kind] or kind == simulator.Kind.OUTPUT:
        kinds = ", ".join(kind for kind in simulator.Kind if kind != simulator.Kind.OUTPUT)
        raise UsageError(f"--fault {said}: there is no such kind; there are {kinds}")
    try:
        share = float(rate) if equals else None
    except ValueError:
        share = -1.0
    if share is not None and not 0 <= share <= 1:
        raise UsageError(f"--fault {said}: the rate must be a number from 0 to 1")
    return simulator.Fault(simulator.Kind(kind), rate=share)


def _check_loopback(host: str) -> None:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise UsageError(f"--host {host}: the stand-in service listens on loopback only")
