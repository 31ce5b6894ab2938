"""`batchgen logs`: which runs there were, and what each said."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from batchgen.cli import common, session_logs, tables
from batchgen.cli.options import Whole
from batchgen.cli.session_logs import Line
from batchgen.cli.standing import how_long
from batchgen.cli.tables import Column
from batchgen.domain.errors import Exit, UsageError
from batchgen.domain.redaction import redact_all
from batchgen.store import reads, sessions
from batchgen.store.database import Database
from batchgen.store.sessions import Session
from batchgen.store.transactions import Transaction
from batchgen.telling import KEPT_LOGS

SHORT_ID = 12
"""Characters of a session's id that are shown: the time that it begins with."""

_MOST_LISTED = 100
_LOOK_AGAIN_S = 0.2
_LAST_LOOKS = 20  # at the log of a run that has left, for its last line
_LAST_KIND = "session_ended"
_COLUMNS = (
    Column("SESSION"),
    Column("BEGAN"),
    Column("TOOK", is_number=True),
    Column("COMMAND"),
    Column("EXIT", is_number=True),
    Column("LOG"),
    Column("WHY IT ENDED"),
)


@click.command("logs")
@click.argument("session", required=False, metavar="[SESSION]")
@click.option("--last", is_flag=True, help="The newest log.")
@click.option("--list", "as_list", is_flag=True, help="List the runs; so without any words.")
@click.option("--job", metavar="JOB", help="Only what happened to this job, in every log.")
@click.option("--tail", type=Whole(min=1), metavar="N", help="Only the last so many lines.")
@click.option(
    "--follow", is_flag=True, help="Go on as the log grows, until its run ends or Ctrl-C."
)
@common.json_option
@common.db_option
def command(
    *,
    session: str | None,
    last: bool,
    as_list: bool,
    job: str | None,
    tail: int | None,
    follow: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """List runs, or show the log of one in lines for people.

    SESSION is an id or its beginning, as the list shows it. The newest 30 logs are kept, as JSON
    lines, beside the job database; for PostgreSQL in a folder of the user's.
    """
    _check(session, last=last, as_list=as_list, job=job, follow=follow, as_json=as_json, tail=tail)
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            now_ms = tx.now_ms()
            key = None if job is None else _key_of(tx, job)
            one = _one(tx, database, session, last=last or follow)
            known = sessions.newest(tx, database.backend, most=_MOST_LISTED + 1)
        if one is None and key is None:
            _list(database, known, now_ms, as_json=as_json)
            return
        chosen = [one] if one is not None else known[::-1]
        found = [session_logs.path_of(database, session.id) for session in chosen]
        paths = [path for path in found if path is not None]
        if not paths:
            raise UsageError(_missing(database, one))
        if follow:
            _follow(database, paths[-1], key, tail)
            return
        lines: Iterable[Line] = (line for path in paths for line in _of(path, key))
        if tail is not None:
            lines = deque(lines, maxlen=tail)
        _show(one, paths, lines, now_ms, as_json=as_json)


def _check(
    session: str | None,
    *,
    last: bool,
    as_list: bool,
    job: str | None,
    follow: bool,
    as_json: bool,
    tail: int | None,
) -> None:
    if session is not None and last:
        raise UsageError("name a session or say --last, not both")
    one = session is not None or last or follow
    if as_list and (one or job is not None or tail is not None):
        raise UsageError("--list lists runs: leave SESSION, --last, --job, --tail and --follow out")
    if tail is not None and not one and job is None:
        raise UsageError("--tail goes with SESSION, --last, --job or --follow")
    if follow and as_json:
        raise UsageError("--follow is for people: a log holds JSON lines, which tail -f follows")


def _key_of(tx: Transaction, said: str) -> str:
    found = common.find_jobs(tx, [said])
    if len(found) != 1:
        raise UsageError("--job takes one job: `batchgen ls` lists them")
    return next(reads.keys_of(tx, found))


def _one(tx: Transaction, database: Database, said: str | None, *, last: bool) -> Session | None:
    if said is not None:
        found = sessions.beginning(tx, database.backend, said)
        if len(found) != 1:
            why = "several sessions begin" if found else "no session begins"
            raise UsageError(f"{why} with {said!r}: `batchgen logs` lists them")
        return found[0]
    if not last:
        return None
    newest = sessions.newest(tx, database.backend, most=_MOST_LISTED)
    if not newest:
        raise UsageError("there was no run of this job database yet: `batchgen run` makes one")
    return next((one for one in newest if session_logs.path_of(database, one.id)), newest[0])


def _missing(database: Database, one: Session | None) -> str:
    folder = session_logs.folder_of(database)
    if folder is None:
        return "there is no folder for logs: set HOME or XDG_STATE_HOME"
    if one is None:
        return f"there is no log in {folder}"
    if one.command != "run":
        return f"session {one.id} was `{one.command}`, which keeps no log"
    where = "" if one.host is None else f", or ran on another machine (it ran on {one.host})"
    return (
        f"there is no log of session {one.id} in {folder}: it is older than the newest "
        f"{KEPT_LOGS}, was run with --no-log{where}"
    )


# -- the list --------------------------------------------------------------------------------------


def how_it_ended(session: Session) -> str:
    """Return the exit code of a session for people, or what stands for it."""
    if session.lives:
        return "lives"
    return "died" if session.exit_code is None else str(session.exit_code)


def session_json(database: Database, session: Session, now_ms: int) -> dict[str, Any]:
    """Return what is known of a session as data."""
    log = session_logs.path_of(database, session.id)
    return {
        "id": session.id,
        "command": session.command,
        "started_at": common.iso(session.started_ms),
        "ended_at": common.iso(session.ended_ms),
        "lasted_s": round(session.lasted_ms(now_ms) / 1000, 3),
        "lives": session.lives,
        "died": session.has_died,
        "exit_code": session.exit_code,
        "reasons": list(session.reasons),
        "worker": session.worker_id,
        "host": session.host,
        "pid": session.pid,
        "version": session.version,
        "log": None if log is None else str(log),
    }


def _list(database: Database, known: Sequence[Session], now_ms: int, *, as_json: bool) -> None:
    folder = session_logs.folder_of(database)
    shown = known[:_MOST_LISTED]
    if as_json:
        common.print_json(
            {
                "folder": None if folder is None else str(folder),
                "sessions": [session_json(database, one, now_ms) for one in shown],
                "more": len(known) > len(shown),
            }
        )
        return
    if not known:
        click.echo("there was no run yet", err=True)
        return
    rows = (_cells(database, session, now_ms) for session in shown)
    for line in tables.table(
        rows, _COLUMNS, width=tables.terminal_width(), colours=tables.has_colours()
    ):
        click.echo(line)
    more = f"; only the newest {_MOST_LISTED}" if len(known) > len(shown) else ""
    common.echo(f"logs lie in {folder}; `batchgen logs --last` shows the newest{more}", err=True)


def _cells(database: Database, session: Session, now_ms: int) -> tuple[str, ...]:
    log = session_logs.path_of(database, session.id)
    return (
        session.id[:SHORT_ID],
        tables.local(session.started_ms, seconds=False),
        how_long(session, now_ms),
        tables.one_line(session.command),
        how_it_ended(session),
        "" if log is None else "yes",
        tables.one_line("; ".join(session.reasons)),
    )


# -- one log ---------------------------------------------------------------------------------------


def _of(path: Path, key: str | None) -> Iterator[Line]:
    for line in session_logs.read(path):
        if key is None or _is_about(line, key):
            yield line


def _is_about(line: Line, key: str) -> bool:
    return line.said is not None and line.said.get("key") == key


def _show(
    one: Session | None, paths: Sequence[Path], lines: Iterable[Line], now_ms: int, *, as_json: bool
) -> None:
    if as_json:
        kept = list(lines)
        common.print_json(
            {
                "session": None if one is None else one.id,
                "logs": [str(path) for path in paths],
                "lines": [redact_all(line.said) for line in kept if line.said is not None],
                "left_out": sum(1 for line in kept if line.said is None),
            }
        )
        return
    is_empty = True
    for line in lines:
        is_empty = False
        _say(line)
    if is_empty:
        click.echo("nothing of that in any log", err=True)


def _follow(database: Database, path: Path, key: str | None, tail: int | None) -> None:
    reader = session_logs.Reader(path)
    try:
        news: Sequence[Line] = deque(_wanted(reader, key), maxlen=tail)
        lives, ended, looks = True, False, _LAST_LOOKS
        while news or lives or (looks and not ended):
            for line in news:
                ended = ended or _is_last(line)
                if key is None or _is_about(line, key):
                    _say(line)
            if not news:
                time.sleep(_LOOK_AGAIN_S)
                looks -= not lives  # it writes its last line after it has left
            lives = lives and _lives(database, path.stem)
            news = list(_wanted(reader, key))  # after the question: what it wrote before is there
        for line in reader.rest():
            _say(line)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.SUCCESS) from None
    finally:
        reader.close()


def _say(line: Line) -> None:
    for text in session_logs.in_words(line).split("\n"):
        click.echo(tables.wrapped(text, tables.terminal_width(), indent=" " * 4))


def _wanted(reader: session_logs.Reader, key: str | None) -> Iterator[Line]:
    """Yield lines about a job, or all; and the last one of a run, for whoever waits for it."""
    return (
        line for line in reader.lines() if key is None or _is_about(line, key) or _is_last(line)
    )


def _is_last(line: Line) -> bool:
    return line.said is not None and line.said.get("kind") == _LAST_KIND


def _lives(database: Database, session_id: str) -> bool:
    with database.reading() as tx:
        found = sessions.beginning(tx, database.backend, session_id)
    return any(session.lives for session in found)
