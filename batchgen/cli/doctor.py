"""`batchgen doctor`: what may be wrong, each with what to type."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from batchgen import diagnosing
from batchgen.cli import common, step_backs
from batchgen.diagnosing import Check, Finding, Level, ok, problem, skipped, warning
from batchgen.domain.errors import Exit, ProviderError, StoreError, UsageError
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.wording import usd
from batchgen.runner import rescue
from batchgen.settings import (
    TOKEN_NAMES,
    Token,
    TokenMissing,
    database_url,
    find_token,
    notify_urls,
    state_folder,
    tokens,
    without_token,
)
from batchgen.store import step_back, upgrade
from batchgen.store.database import Database
from batchgen.store.revision import REVISION

if TYPE_CHECKING:
    from batchgen.cli.service import Service
    from batchgen.providers.interface import Greeting

_GREETED_S = 8.0  # below what all checks are waited for, so that it can be told
_RESOLVED_S = 5.0
_A_NIGHT = timedelta(hours=12)
_SHORTEST_TOKEN = 16  # characters; RunComfy's are longer
_NEW_TOKEN = f"set {TOKEN_NAMES[0]} to the one that RunComfy's website shows under Profile"
_LOOK_AT_NETWORK = "look at the network and at RUNCOMFY_MODEL_API_BASE, then try again"


@click.command("doctor")
@click.option("--offline", is_flag=True, help="Do not ask the service.")
@common.json_option
@common.db_option
def command(*, offline: bool, db: str | None, allow_network_fs: bool, as_json: bool) -> int:
    """Check all that a run needs, and say of each fault what to type.

    Nothing is written or paid, and nobody is told anything. Exit code 0 if there is no problem,
    else that of the worst one, as a run would end with: 6 token, 7 balance, 11 job database, 12
    service, 13 folders and disk, 2 settings.
    """
    url = database_url(db)
    simulated = common.is_simulated()  # asked here: the checks have threads of their own
    checks = [
        Check("program", diagnosing.installation),
        Check("terminal", lambda: diagnosing.terminal(getattr(sys.stdout, "encoding", "") or "")),
        Check("token", lambda: _token(simulated=simulated), Exit.TOKEN),
        Check(
            "service",
            lambda: _service(offline=offline, simulated=simulated),
            Exit.UNREACHABLE,
        ),
        Check(
            "database",
            lambda: diagnosing.database(url, allow_network_fs=allow_network_fs),
            Exit.DATABASE,
        ),
        Check(
            "purchases",
            lambda: _purchases(url, allow_network_fs=allow_network_fs),
            Exit.DATABASE,
        ),
        Check("journal", lambda: diagnosing.state_folder(state_folder()), Exit.OUTPUT),
        Check("notify", lambda: diagnosing.notifications(notify_urls()), Exit.USAGE),
    ]
    found = []
    for finding in diagnosing.findings_of(checks):
        found.append(finding)
        if not as_json:
            click.echo("\n".join(_lines(finding)))
    code = diagnosing.worst(found)
    if as_json:
        common.print_json({"findings": [_json(one) for one in found], "worst": _worst(found)})
    else:
        click.echo(_sum(found), err=True)
    return code


# -- token and service -----------------------------------------------------------------------------


def _token(*, simulated: bool) -> Iterator[Finding]:
    if simulated:
        yield skipped("token", "the stand-in needs none")
        return
    try:
        token = find_token()
    except (TokenMissing, UsageError) as error:
        yield problem("token", str(error).partition(": set ")[0], _NEW_TOKEN, Exit.TOKEN)
        return
    said = f"found in {token.source}, {len(token.text)} characters"
    if len(set(tokens())) > 1:
        said += "; another one, elsewhere, is not used"
    yield _lasting(token, said)


def _lasting(token: Token, said: str) -> Finding:
    ends = token.expires_at
    if ends is None:
        if len(token.text) < _SHORTEST_TOKEN:
            return warning("token", f"{said}: short for a token", _NEW_TOKEN)
        return ok("token", said)
    left = ends - datetime.now(UTC)
    when = f"{ends:%Y-%m-%d %H:%M} UTC"
    again = f"log in again with RunComfy's own program, or {_NEW_TOKEN}"
    if left <= timedelta(0):
        return problem("token", f"{said}; it expired at {when}", again, Exit.TOKEN)
    if left < _A_NIGHT:
        return warning("token", f"{said}; it expires at {when}, perhaps in the night", again)
    return ok("token", f"{said}; it lasts until {when}")


def _service(*, offline: bool, simulated: bool) -> Iterator[Finding]:
    if simulated:
        yield skipped("service", "the stand-in is served by each command that needs it")
        return
    if offline:
        yield skipped("service", "--offline: nobody was asked; neither were balance and clock")
        return
    from batchgen.cli import service  # loads the network libraries

    found = service.configured()
    with contextlib.suppress(TokenMissing, UsageError):  # that is told by its own check
        found.token = find_token()
    yield from _answers(found)


def _answers(found: "Service") -> Iterator[Finding]:
    host = urlsplit(found.origin).hostname or ""
    if not _is_known(host):
        yield problem(
            "service",
            f"{host} is not known to the network: no name server says where it is",
            _LOOK_AT_NETWORK,
            Exit.UNREACHABLE,
        )
        return
    began, began_s = time.monotonic(), time.time()
    try:
        greeting = asyncio.run(_greet(found))
    except ProviderError as error:
        yield problem("service", f"{found.origin}: {error}", _LOOK_AT_NETWORK, Exit.UNREACHABLE)
        return
    took_s = time.monotonic() - began
    yield from _told(found, greeting, took_s)
    if greeting.at is not None:
        # A Date header tells whole seconds.
        middle_s = began_s + took_s / 2
        yield diagnosing.clock(middle_s - greeting.at.timestamp() - 0.5, "the service's")


def _told(found: "Service", greeting: "Greeting", took_s: float) -> Iterator[Finding]:
    trouble = greeting.trouble
    refused = trouble is not None and trouble.exit_code is Exit.TOKEN
    if trouble is not None and not refused:
        yield problem(
            "service",
            f"{found.origin} answers, but does not tell the balance: {trouble}",
            _LOOK_AT_NETWORK,
            Exit.UNREACHABLE,
        )
        return
    yield ok("service", f"{found.origin} answers in {took_s * 1000:.0f} ms")
    if found.token is None:
        yield skipped("balance", "it is told only with a token")
    elif trouble is not None:
        yield problem("token", f"the service refuses it: {trouble}", _NEW_TOKEN, Exit.TOKEN)
    elif (greeting.balance_micros or 0) <= 0:
        yield problem(
            "balance",
            f"{usd(greeting.balance_micros)}: nothing can be paid for",
            "top the account up at RunComfy",
            Exit.NO_BALANCE,
        )
    else:
        yield ok("balance", usd(greeting.balance_micros))


async def _greet(found: "Service") -> "Greeting":
    client = found.connect_greeter(within_s=_GREETED_S - _RESOLVED_S / 2)
    try:
        return await client.greet(with_token=found.token is not None)
    finally:
        await client.close()


def _is_known(host: str) -> bool:
    """Return whether a host's name is known, in bounded time.

    In a thread of its own: the pool of an event loop is waited for, however long a name server
    does not answer.
    """
    from batchgen.http import resolves

    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(resolves(host)), daemon=True)
    thread.start()
    thread.join(_RESOLVED_S)
    return any(answers)


# -- purchases that are not in the job database ----------------------------------------------------


def _purchases(url: str, *, allow_network_fs: bool) -> Iterator[Finding]:
    try:
        with closing(Database(url, allow_network_fs=allow_network_fs)) as database:
            if not database.exists() or upgrade.revision_of(database) != REVISION:
                return
            witnesses = step_backs.witnesses_of(database)
            with database.reading() as tx:
                missed = step_backs.missed(tx, witnesses)
                files = rescue.left_behind(tx, database.backend)
    except (StoreError, UsageError):  # the check of the job database tells it
        return
    if missed is not None:
        yield problem(
            "stepped back",
            step_back.explain(missed).partition(". ")[0],
            "`batchgen reconcile --after-restore`",
            Exit.DATABASE,
        )
    if files:
        yield warning(
            "rescue files",
            f"{common.plural(len(files), 'file')} of request ids that a run could not record: "
            f"{files[0]}",
            "`batchgen reconcile --from-rescue`; the next run does it too",
        )
    if missed is None and not files:
        yield ok("purchases", "all that this host has written down are in the job database")


# -- in words --------------------------------------------------------------------------------------


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.level:<8} {finding.check:<12}  {_clean(finding.said)}"]
    if finding.remedy:
        lines.append(f"{'':<22} → {_clean(finding.remedy)}")
    return lines


def _clean(text: str) -> str:
    return printable(redact_text(without_token(text))).replace("\n", "; ")


def _sum(found: Sequence[Finding]) -> str:
    problems = sum(one.level is Level.PROBLEM for one in found)
    warnings = sum(one.level is Level.WARNING for one in found)
    if not problems and not warnings:
        return "nothing is wrong"
    return f"{common.plural(problems, 'problem')}, {common.plural(warnings, 'warning')}"


def _worst(found: Sequence[Finding]) -> str:
    for level in (Level.PROBLEM, Level.WARNING):
        if any(one.level is level for one in found):
            return str(level)
    return str(Level.OK)


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "level": str(finding.level),
        "message": _clean(finding.said),
        "remedy": _clean(finding.remedy) or None,
        "exit_code": int(finding.exit_code),
    }
