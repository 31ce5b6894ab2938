"""What the commands share: options, opening the job database, money and times in words."""

import contextlib
import functools
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from batchgen.buckets.bucket import LONGEST_SIGNED_S
from batchgen.buckets.location import parse_location
from batchgen.cli import reply
from batchgen.cli.options import Seconds, Whole
from batchgen.cli.reply import Reply, without_secrets
from batchgen.domain.adapting import State
from batchgen.domain.errors import NoConsent, NoDatabase, NoSuchBatch, NoSuchJob, UsageError
from batchgen.domain.redaction import printable
from batchgen.settings import SIMULATED_DATABASE, database_url
from batchgen.store import accounts, additions, moving, reads, upgrade, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

faults_json = reply.faults_json
json_option = reply.json_option
print_json = reply.print_json

REAL, SIMULATED = "runcomfy", "simulator"
"""The providers of accounts: a database holds real jobs or simulated ones."""

Command = TypeVar("Command", bound=Callable[..., Any])

_SIMULATE = "batchgen.cli.common.simulate"
_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*@")


def db_option(command: Command) -> Command:
    """Add `--db`, `--allow-network-fs` and `--simulate`: which job database is meant."""
    simulates = simulate_option("The job database of `run --simulate`, and its stand-in.")
    return database_options(simulates(command))


def database_options(command: Command) -> Command:
    """Add `--db` and `--allow-network-fs` to a command that has a `--simulate` of its own."""
    command = click.option(
        "--db",
        metavar="URL|PATH",
        callback=_database_meant,
        help="The job database; else BATCHGEN_DB, else ./batchgen.db.",
    )(command)
    return click.option(
        "--allow-network-fs",
        is_flag=True,
        help="Use a job database on a network file system, at your own risk.",
    )(command)


def simulate_option(text: str, *, is_given: bool = False) -> Callable[[Command], Command]:
    """Add `--simulate`; `is_simulated` tells whether it was given.

    Args:
        text: Its help.
        is_given: Whether the command is given it as an argument too.
    """

    def note(context: click.Context, _: click.Parameter, value: bool) -> bool:
        context.meta[_SIMULATE] = value
        return value

    return click.option(
        "--simulate",
        is_flag=True,
        is_eager=True,  # it says which job database `--db` means
        expose_value=is_given,
        callback=note,
        help=text,
    )


def is_simulated() -> bool:
    """Return whether the command at work is about simulated jobs."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_SIMULATE))


def provider() -> str:
    """Return whose accounts the command at work is about."""
    return SIMULATED if is_simulated() else REAL


def meant(text: str) -> str:
    """Return a text for people whose commands mean the job database and account at work."""
    context = click.get_current_context(silent=True)
    reply = None if context is None else context.find_object(Reply)
    return text if reply is None else reply.meant(text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text for people, as `meant`."""
    click.echo(meant(text), err=err)


def command_line(words: str) -> str:
    """Return a command for people to type, which means the job database of the one at work.

    Args:
        words: What follows `batchgen`, as `ls --state failed`.
    """
    return meant(f"`batchgen {words}`").strip("`")


def _database_meant(
    context: click.Context, param: click.Parameter, value: str | None
) -> str | None:
    is_typed = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    simulates = bool(context.meta.get(_SIMULATE))
    reply = context.find_object(Reply)
    if reply is not None:
        named = ["--db", _PASSWORD.sub(r"\1@", value)] if value and is_typed else []
        reply.database = shlex.join([*named, *(["--simulate"] if simulates else [])])
    if simulates and not is_typed:
        return SIMULATED_DATABASE  # whatever is configured: that is for real jobs
    return value


def _account_meant(context: click.Context, param: click.Parameter, value: str) -> str:
    reply = context.find_object(Reply)
    if reply is not None and value != param.default:
        reply.account = shlex.join(["--account", value])
    return value


def is_database_named() -> bool:
    """Return whether the user named the job database, for this command or in the environment.

    A file does not count: -y makes no real job database where no person has named it.
    """
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source("db")
    return source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def check_kind(tx: Transaction, database: Database) -> None:
    """Keep simulated jobs and real ones in job databases of their own.

    Raises:
        UsageError: If a job database holds those that are not meant.
    """
    kinds = {account.provider for account in accounts.every(tx)}
    if is_simulated() and kinds - {SIMULATED}:
        raise UsageError(
            f"{database.shown} holds real jobs: --simulate keeps its own job database "
            f"({SIMULATED_DATABASE}); leave --db out"
        )
    if not is_simulated() and SIMULATED in kinds:
        raise UsageError(
            f"{database.shown} holds simulated jobs: name another job database with --db, or pass "
            "--simulate"
        )


def manifests_argument(*, required: bool) -> Callable[[Command], Command]:
    """Add the argument `manifests`; those that can be read only once are kept meanwhile."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def kept(**given: Any) -> Any:
            from batchgen.manifests import spooled

            with spooled(given["manifests"]):
                return command(**given)

        metavar = "MANIFEST..." if required else "[MANIFEST]..."
        argument = click.argument(
            "manifests", nargs=-1, required=required, metavar=metavar, callback=_manifests_named
        )
        return argument(kept)  # type: ignore[return-value]

    return decorate


def _manifests_named(
    _: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if "" in value:  # as an unset variable of a script gives it
        raise click.BadParameter("an empty word names no manifest", param=param)
    return value


def progress_option(command: Command) -> Command:
    """Add `--progress`."""
    return click.option(
        "--progress",
        type=click.Choice(["live", "plain", "json", "none"]),
        help="How to show how it goes, on stderr: live is a panel on a terminal, plain a line now "
        "and then, json an object a line (live, else plain; none with -q and --json).",
    )(command)


def batch_option(command: Command) -> Command:
    """Add `--batch` to a command that looks."""
    return click.option("--batch", metavar="NAME", help="Only the jobs of this batch.")(command)


def account_option(command: Command) -> Command:
    """Add `--account`."""
    return click.option(
        "--account",
        default="default",
        show_default=True,
        metavar="NAME",
        callback=_account_meant,
        help="Who pays.",
    )(command)


def sidecar_option(command: Command) -> Command:
    """Add `--sidecar`."""
    return click.option(
        "--sidecar/--no-sidecar",
        default=False,
        help="Write beside each clip a .json of what it was made of.",
    )(command)


def new_batch_option(command: Command) -> Command:
    """Add `--new-batch`."""
    return click.option(
        "--new-batch", is_flag=True, help="The rows are new jobs, whatever they resemble."
    )(command)


def max_expand_option(command: Command) -> Command:
    """Add `--max-expand`."""
    return click.option(
        "--max-expand",
        type=Whole(min=1, max=10**9),
        default=100_000,
        show_default=True,
        help="Refuse a manifest that expands beyond this.",
    )(command)


def unknown_inputs_option(command: Command) -> Command:
    """Add `--allow-unknown-inputs`."""
    return click.option(
        "--allow-unknown-inputs",
        is_flag=True,
        help="Send inputs that the model's schema does not know: YAML keys, input.NAME columns.",
    )(command)


def sign_option(command: Command) -> Command:
    """Add `--sign`."""
    return click.option(
        "--sign",
        "sign_s",
        type=Seconds(shortest_s=1, longest_s=LONGEST_SIGNED_S),
        metavar="TIME",
        help="Link clips in a bucket so that anybody who has the file can fetch them for so long.",
    )(command)


PRIVATE_INPUTS = (
    "Input URLs may point to private or loopback addresses, and files lie outside of the "
    "manifest's folder."
)


class Place(click.ParamType[str]):
    """A place in object storage: `s3://bucket/prefix`."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is stored."""
        try:
            return str(parse_location(str(value)))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def uploads_option(command: Command) -> Command:
    """Add `--uploads`."""
    return click.option(
        "--uploads",
        type=Place(),
        help="Upload input files of this machine to this bucket (s3://BUCKET/PREFIX), each once; "
        "kept per batch.",
    )(command)


def probe_option(default: str) -> Callable[[Command], Command]:
    """Add `--probe`.

    Args:
        default: Of the command, in words.
    """
    return click.option(
        "--probe/--no-probe",
        default=None,
        envvar="BATCHGEN_PROBE",
        help=f"Look at each input URL before anything is paid ({default}).",
    )


class _Redacting(logging.Formatter):
    """Lines for people: also what a library says or raises shows no secret."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_secrets(super().format(record)))


def log_to_stderr(*, verbose: bool = False) -> None:
    """Show warnings on stderr, and with `verbose` what happens to each job."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting())
    level = logging.INFO if verbose else logging.WARNING
    handler.setLevel(level)  # the log of a session takes more than is shown here
    logging.basicConfig(level=level, handlers=[handler])


def open_database(db: str | None, *, allow_network_fs: bool) -> Database:
    """Open a job database that must exist, and bring its schema up to date.

    Raises:
        StoreError: If there is none, or it cannot be used.
    """
    database = Database(database_url(db), allow_network_fs=allow_network_fs)
    try:
        upgrade.require_current(database)
    except NoDatabase as error:
        if is_simulated() or not Path(SIMULATED_DATABASE).is_file():
            raise
        raise NoDatabase(
            f"{error}; {SIMULATED_DATABASE} is here: --simulate means its jobs"
        ) from error
    with database.reading() as tx:
        if is_simulated():  # who only looks may do so without saying it
            check_kind(tx, database)
        elif {account.provider for account in accounts.every(tx)} == {SIMULATED}:
            _mean_simulated(database)
    return database


def _mean_simulated(database: Database) -> None:
    """Let the commands that are advised say what the one at work need not: `--simulate`."""
    context = click.get_current_context(silent=True)
    reply = None if context is None else context.find_object(Reply)
    if reply is not None:
        reply.database = f"{reply.database or shlex.join(['--db', database.shown])} --simulate"


def open_to_change(db: str | None, *, allow_network_fs: bool) -> Database:
    """Open a job database that must exist, and whose jobs have not moved to another.

    Raises:
        StoreError: If there is none, or it cannot be used, or its jobs are elsewhere.
    """
    database = open_database(db, allow_network_fs=allow_network_fs)
    moving.refuse(database)
    return database


@contextlib.contextmanager
def looking(database: Database) -> Iterator[Transaction | None]:
    """Open a reading transaction; None if there is no job database yet.

    Raises:
        UsageError: If it holds simulated jobs and real ones are meant, or the other way round.
    """
    if not database.exists():
        yield None
        return
    with database.reading() as tx:
        check_kind(tx, database)
        yield tx


def account_of(tx: Transaction, name: str) -> Account:
    """Return an account by name.

    Raises:
        UsageError: If there is no such account.
    """
    known = {account.name: account for account in accounts.every(tx)}
    if name not in known:
        raise UsageError(
            f"this job database has no account {name!r}; its accounts are: "
            f"{', '.join(known) or 'none'}"
        )
    return known[name]


def living(tx: Transaction, database: Database) -> int:
    """Return how many workers are at work, which hear of a change within seconds."""
    return len(workers.living(tx, database.backend))


def follow(live: int, one: str, several: str) -> str:
    """Return what live workers do about a change, to be put behind it; "" if there is none.

    Args:
        live: How many there are.
        one: What one does: `goes on`.
        several: What several do: `go on`.
    """
    if not live:
        return ""
    return f"; {plural(live, 'live worker')} {one if live == 1 else several} within seconds"


def batch_id_of(tx: Transaction, name: str | None) -> int | None:
    """Return the row id of a batch by name, None if no name is given.

    Raises:
        UsageError: If there is no such batch.
    """
    if name is None:
        return None
    batch = additions.find_batch(tx, name)
    if batch is None:
        known = ", ".join(summary.name for summary in reads.batches(tx)) or "none"
        raise NoSuchBatch(f"there is no batch {name!r}; the batches are: {known}")
    return batch.id


def find_jobs(tx: Transaction, said: Iterable[str]) -> list[int]:
    """Return the jobs that a person's words mean; `-` reads them from stdin, one a line.

    Raises:
        UsageError: If a word means no job, or more than one.
    """
    words = [one for word in said for one in (_from_stdin() if word == "-" else [word])]
    found = reads.find_each(tx, words)
    unknown = [word for word in found if not found[word]]
    if unknown:
        more = f", and {len(unknown) - 1:,} more of these words mean none" * (len(unknown) > 1)
        raise NoSuchJob(f"no job is called {unknown[0]!r}{more}: `batchgen ls` lists them")
    for word, ids in found.items():
        if len(ids) > 1:
            raise NoSuchJob(
                f"{word!r} may be any of {len(ids)} jobs: say BATCH/ID, ID-VARIANT or the key"
            )
    return list(dict.fromkeys(found[word][0] for word in words))


def _from_stdin() -> list[str]:
    try:
        words = [line.strip() for line in sys.stdin if line.strip()]
        for word in words:
            word.encode()  # what was no UTF-8 may have come through
    except UnicodeError:
        raise UsageError("standard input is not UTF-8: name one job a line") from None
    return words


def usd_number(micros: int | None) -> float | None:
    """Return money as a number of dollars for JSON and tables."""
    return None if micros is None else micros / 1_000_000


def adapted_json(state: State | None) -> dict[str, Any] | None:
    """Return what `-j auto` allows now; None if the cap is fixed."""
    return None if state is None else {"jobs": state.cap, "submits_per_s": state.pace}


def time_of(ms: int | None) -> datetime | None:
    """Return epoch milliseconds as a UTC time."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def iso(ms: int | None) -> str | None:
    """Return epoch milliseconds as ISO 8601 in UTC."""
    at = time_of(ms)
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_line(value: Mapping[str, Any]) -> None:
    """Print an object on stdout in one line, at once."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
    sys.stdout.flush()


def in_words(value: Any) -> str:
    """Return a value of a manifest as a person writes it: texts as they are, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plural(count: int, noun: str) -> str:
    """Return `1 job`, `2 jobs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str]) -> str:
    """Return rows as aligned columns under a header."""
    everything = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[index]) for row in everything) for index in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    ]
    return "\n".join(lines)


def is_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something costs money.

    Raises:
        UsageError: If the answer is no, or nobody can be asked.
    """
    if yes:
        return
    if not is_terminal():
        raise NoConsent(
            "this costs money and nobody can be asked: pass -y to agree. Nothing was stored or "
            "spent"
        )
    click.echo(question + " [y/N] ", nl=False, err=True)
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        click.echo("\nnothing was stored or spent", err=True)
        raise
    if answer not in ("y", "yes"):
        raise NoConsent("not agreed: nothing was stored or spent")
