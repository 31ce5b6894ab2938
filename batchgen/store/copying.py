"""Bring every row of a job database to another one, and hold the two against each other.

The source says first that it has moved, so that nothing changes in it any more. Rows are then
written in steps, each with how far it got in one transaction: whatever interrupts it, the same
command goes on. Last, both are read in the same order, and only if each row is the same on both
sides may the target be used.
"""

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

from sqlalchemy import Boolean, Column, Integer, Table, Text

from batchgen.domain.errors import StoreError, UsageError
from batchgen.failpoints import failpoint
from batchgen.store import imports, moving, workers
from batchgen.store.database import Database
from batchgen.store.moving import MovedAway, Stand
from batchgen.store.payloads import RAW_ANSWERS, packed, unpacked
from batchgen.store.schema import job_database, metadata
from batchgen.store.statements import Statement, locking, text
from batchgen.store.transactions import Transaction

_TABLES = [table for table in metadata.sorted_tables if table is not job_database]
_STEP = 1_000  # rows of one transaction, each with all that the service answered
_READ = 500  # rows that are fetched together
_WAIT_S = 0.2
_TRIES = 150

_LOCK = locking("SELECT 1 FROM job_database")
_BEGIN = text("UPDATE job_database SET id = :id, copying = :copying, moved_to = NULL")
_ADVANCE = text("UPDATE job_database SET copying = :copying WHERE copying = :before")
_FINISH = text(
    "UPDATE job_database SET copying = NULL, stepped_back = :stepped_back, stamp = '', "
    "new_stamp = NULL, quiet_until_ms = NULL WHERE copying = :before"
)
_STEPPED_BACK = text("SELECT stepped_back FROM job_database")
# A table may be large, and nobody else is at work.
_NO_HURRY = text("SELECT set_config('statement_timeout', '0', true)")


@dataclass(frozen=True)
class Checked:
    """One table, the same on both sides.

    Attributes:
        checksum: SHA-256 over the SHA-256 of each row, in the order of their keys.
    """

    name: str
    rows: int
    checksum: str


@dataclass(frozen=True)
class Copied:
    """A job database in its new place.

    Attributes:
        tables: Each with its rows; empty if everything had been there already.
        doubts: Jobs of dead workers that came in doubt.
        is_resumed: An earlier copy had been interrupted.
    """

    tables: tuple[Checked, ...]
    doubts: int = 0
    is_resumed: bool = False


@dataclass(frozen=True)
class _Progress:
    """How far a copy has got; what the target says of it.

    Attributes:
        move: What tells this move from all others.
        source: The id of the source.
        shown: Its name for people.
        table: The table whose rows are being copied, "" at the start.
        after: The key of the last row that is there; none of the table's if empty.
    """

    move: str
    source: str
    shown: str
    table: str = ""
    after: tuple[Any, ...] = ()

    @property
    def said(self) -> str:
        values = {
            "move": self.move,
            "source": self.source,
            "from": self.shown,
            "table": self.table,
            "after": list(self.after),
        }
        return json.dumps(values, ensure_ascii=False)


def _progress(said: str) -> _Progress:
    values = json.loads(said)
    after = tuple(values["after"])
    return _Progress(values["move"], values["source"], values["from"], values["table"], after)


def copy(
    source: Database,
    target: Database,
    *,
    now_ms: int,
    slot_ms: Callable[[Transaction], int],
    say: Callable[[str], None],
    step: int = _STEP,
) -> Copied:
    """Move a job database to another, or go on with that.

    Args:
        source: Opened and current.
        target: Opened and current, and empty or half of a copy of the source.
        now_ms: The time.
        slot_ms: How long what dead workers had sent holds its slot.
        say: Told each table that is there.
        step: Rows of one transaction.

    Raises:
        UsageError: If the target holds anything else, or a worker lives in one of the two.
        MovedAway: If the source has moved to another place.
        StoreError: If one cannot be used, or a row is not the same on both sides.
    """
    doubts = 0
    # Before a lock is taken: of one job database, nobody could have it twice.
    _check(source, target)
    with _alone(source), _alone(target):
        begun = _check(source, target)
        if begun is None:
            return Copied(())
        is_resumed = begun.table != "" or _is_marked(source)
        if not _is_marked(source):
            begun, doubts = _begin(source, target, begun, now_ms=now_ms, slot_ms=slot_ms)
        with target.bulk():
            last = _bring(source, target, begun, say=say, step=step)
        tables = tuple(compare(source, target))
        failpoint("in-copy")
        _finish(source, target, last)
    return Copied(tables, doubts, is_resumed)


def undo(source: Database, target: Database | None, *, now_ms: int) -> None:
    """Let a job database that has moved go on, instead of the one that it moved to.

    Args:
        source: Opened and current.
        target: Where it moved to, which says from then on that it has moved back; None if that
            one is lost.
        now_ms: The time.

    Raises:
        UsageError: If it has not moved, not to there, or if the target has gone on.
    """
    with source.reading() as tx:
        mine = moving.stand(tx)
    if mine.moved_to is None:
        raise UsageError(f"{source.shown} has not moved: there is nothing to undo")
    if target is None:
        with source.transaction() as tx:
            moving.come_back(tx, now_ms=now_ms)
        return
    with _alone(target):
        with target.reading() as tx:
            _refuse_living(tx, target)
            there = moving.stand(tx)
        progress = None if there.copying is None else _progress(there.copying)
        if mine.move != (there.move if progress is None else progress.move):
            raise UsageError(f"{source.shown} has moved to {mine.moved_to}, not to {target.shown}")
        if progress is None:
            _refuse_gone_on(source, target)
            with target.transaction() as tx:
                moving.leave(tx, source.shown, secrets.token_hex(8), now_ms=now_ms)
        with source.transaction() as tx:
            moving.come_back(tx, now_ms=now_ms)


def _refuse_gone_on(source: Database, target: Database) -> None:
    try:
        for _ in compare(source, target):
            pass
    except NotTheSame as error:
        raise UsageError(
            f"{target.shown} has gone on since: the jobs as they are now are there only. Copy them "
            f"to a new job database instead: `batchgen db copy {target.shown} NEW.db`"
        ) from error


# -- before anything is written ------------------------------------------------------------------


@contextlib.contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Be the only one who adds to a job database, or copies to it."""
    tries = 0

    def wait() -> None:
        nonlocal tries
        tries += 1
        if tries > _TRIES:
            raise StoreError(
                f"{database.shown}: another program adds to this job database, or copies it: let "
                "it end first, then try again"
            )
        time.sleep(_WAIT_S)

    with database.translated(), database.backend.adding(wait):
        yield


def _is_marked(source: Database) -> bool:
    with source.reading() as tx:
        return moving.stand(tx).moved_to is not None


def _check(source: Database, target: Database) -> _Progress | None:
    """Return how far a copy has got, from the start if there is none; None if it has ended.

    Raises:
        UsageError: If the target holds anything but half of a copy of the source, or a worker
            lives.
        MovedAway: If the source is elsewhere.
    """
    with source.reading() as tx:
        _refuse_living(tx, source)
        mine = moving.stand(tx)
    with target.reading() as tx:
        _refuse_living(tx, target)
        theirs = moving.stand(tx)
        is_empty = _is_empty(tx)
    if theirs.copying is not None:
        return _goes_on(source, target, mine, _progress(theirs.copying))
    if mine.moved_to is not None:
        if theirs.move == mine.move and theirs.id == mine.id and not is_empty:
            return None
        raise MovedAway(
            f"{source.shown}: its jobs have moved to {mine.moved_to}: name that one as the source"
        )
    if theirs.id == mine.id or not is_empty:
        raise UsageError(
            f"{target.shown} holds jobs already, or has been worked with: name an empty database "
            "to copy to. Nothing was changed"
        )
    return _Progress(secrets.token_hex(8), mine.id, source.shown)


def _goes_on(source: Database, target: Database, mine: Stand, there: _Progress) -> _Progress:
    if mine.moved_to is None:
        if there.source != mine.id:
            raise UsageError(
                f"{target.shown} holds half of a copy of {there.shown}, another job database: "
                "name an empty one to copy to. Nothing was changed"
            )
        # The mark was never set, or was taken back: what is there may be out of date.
        return _Progress(secrets.token_hex(8), mine.id, source.shown)
    if there.move == mine.move:
        return there
    raise MovedAway(
        f"{source.shown}: its jobs have moved to {mine.moved_to}: name that one as the source"
    )


def _refuse_living(tx: Transaction, database: Database) -> None:
    living = workers.living(tx, database.backend)
    if living:
        raise UsageError(
            f"{database.shown}: {len(living)} worker(s) are at work in this job database: let them "
            "end first (`batchgen workers` lists them). Nothing was changed"
        )


def _is_empty(tx: Transaction) -> bool:
    return all(tx.row(text(f"SELECT 1 FROM {table.name} LIMIT 1")) is None for table in _TABLES)


# -- the copy ------------------------------------------------------------------------------------


def _begin(
    source: Database,
    target: Database,
    begun: _Progress,
    *,
    now_ms: int,
    slot_ms: Callable[[Transaction], int],
) -> tuple[_Progress, int]:
    """Say in both that the jobs are on their way; return how many came in doubt for that."""
    imports.remove_dead(source, sleep=time.sleep)
    with target.transaction() as tx:
        if tx.is_postgresql:
            tx.run(_NO_HURRY)
        tx.row(_LOCK)  # who begins to work there waits, and finds it said
        _refuse_living(tx, target)
        if moving.stand(tx).copying is None and not _is_empty(tx):
            raise UsageError(f"{target.shown} has been worked with just now: nothing was changed")
        for table in reversed(_TABLES):
            tx.run(text(f"DELETE FROM {table.name}"))
        tx.run(_BEGIN, {"id": begun.source, "copying": begun.said})
    doubts = 0
    with source.transaction() as tx:
        moving.leave(tx, target.shown, begun.move, now_ms=now_ms)
        _refuse_living(tx, source)
        fallen = workers.fallen(tx, source.backend, but="")
        for dead in fallen:
            found = workers.bury(tx, dead, slot_ms=slot_ms(tx), now_ms=now_ms)
            if found is None:  # it was silent, and is in the middle of something
                raise UsageError(
                    f"{source.shown}: a worker is at work in this job database after all: let it "
                    "end first. Nothing was moved"
                )
            doubts += found
    for dead in fallen:
        source.backend.forget(dead)
    return begun, doubts


def _bring(
    source: Database,
    target: Database,
    begun: _Progress,
    *,
    say: Callable[[str], None],
    step: int,
) -> _Progress:
    """Write the rows that are not there yet, table after table; return how far that got."""
    names = [table.name for table in _TABLES]
    done = names.index(begun.table) if begun.table else 0
    now = begun
    for table in _TABLES[done:]:
        after = now.after if now.table == table.name else ()
        with _reading(source) as tx:
            found = _rows(tx, table, after=after)
            while rows := list(islice(found, step)):
                then = _Progress(
                    now.move, now.source, now.shown, table.name, tuple(_key(table, rows[-1]))
                )
                with target.transaction() as out:
                    _advance(out, now, then)
                    out.run_many(_insert(table), [_kept(out, row) for row in rows])
                now = then
                failpoint("in-copy")
        say(table.name)
    return now


def _insert(table: Table) -> Statement:
    names = [column.name for column in table.columns]
    listed, places = (
        ", ".join(f'"{name}"' for name in names),
        ", ".join(f":{name}" for name in names),
    )
    return text(f"INSERT INTO {table.name} ({listed}) VALUES ({places})")


def _kept(tx: Transaction, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as a transaction stores it."""
    clean = _storable(row, is_server=tx.is_postgresql)
    return clean | {name: packed(tx, clean[name]) for name in RAW_ANSWERS if name in clean}


def _advance(tx: Transaction, now: _Progress, then: _Progress) -> None:
    if not tx.run(_ADVANCE, {"copying": then.said, "before": now.said}):
        raise StoreError("another program copies to the same job database: let one of them end")


def _finish(source: Database, target: Database, last: _Progress) -> None:
    """Let the target be worked with."""
    with source.reading() as tx:
        stepped_back = tx.value(_STEPPED_BACK)
    with target.transaction() as tx:
        if tx.is_postgresql:
            for table in _TABLES:
                _set_sequence(tx, table)
        values = {"stepped_back": stepped_back, "before": last.said}
        if not tx.run(_FINISH, values):
            raise StoreError("another program copies to the same job database: let one of them end")


def _set_sequence(tx: Transaction, table: Table) -> None:
    """Let the next id be above all that were copied."""
    (first, *others) = table.primary_key.columns
    if others or not isinstance(first.type, Integer):
        return
    tx.value(
        text(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', '{first.name}'), "
            f"(SELECT coalesce(max({first.name}), 1) FROM {table.name}), "
            f"EXISTS (SELECT 1 FROM {table.name}))"
        )
    )


@contextlib.contextmanager
def _reading(database: Database) -> Iterator[Transaction]:
    """Open a reading transaction in which a large table may be sorted."""
    with database.reading() as tx:
        if tx.is_postgresql:
            tx.run(_NO_HURRY)
        yield tx


def _key(table: Table, row: Mapping[str, Any]) -> list[Any]:
    return [row[column.name] for column in table.primary_key.columns]


def _rows(
    tx: Transaction, table: Table, *, after: Sequence[Any] = ()
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table in the order of their keys, which is the same on both kinds."""
    keys = [_ordered(tx, column) for column in table.primary_key.columns]
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    query, values = f"SELECT {names} FROM {table.name}", dict[str, Any]()
    if after:
        values = {f"after_{at}": value for at, value in enumerate(after)}
        places = ", ".join(f":{name}" for name in values)
        query += f" WHERE ({', '.join(keys)}) > ({places})"
    query += f" ORDER BY {', '.join(keys)}"
    flags = [column.name for column in table.columns if isinstance(column.type, Boolean)]
    answers = [column.name for column in table.columns if column.name in RAW_ANSWERS]
    for row in tx.stream(text(query), values, at_once=_READ):
        found = dict(row._mapping)
        found |= {name: bool(found[name]) for name in flags}  # SQLite knows 0 and 1 only
        yield found | {name: unpacked(found[name]) for name in answers}


def _ordered(tx: Transaction, column: Column[Any]) -> str:
    # By bytes, as SQLite does.
    by_bytes = tx.is_postgresql and isinstance(column.type, Text)
    return f'"{column.name}"' + ' COLLATE "C"' * by_bytes


# -- the comparison ------------------------------------------------------------------------------


class NotTheSame(StoreError):
    """A row differs between the two."""

    kind = "copy_differs"


def compare(source: Database, target: Database) -> Iterator[Checked]:
    """Yield each table once all of its rows are found to be the same on both sides.

    Raises:
        NotTheSame: If one is not.
    """
    with _reading(source) as here, _reading(target) as there:
        for table in _TABLES:
            yield _compare(here, there, table, target.shown)


def _compare(here: Transaction, there: Transaction, table: Table, shown: str) -> Checked:
    count = 0
    sums = hashlib.sha256(), hashlib.sha256()
    is_server = here.is_postgresql or there.is_postgresql
    for pair in zip_longest(_rows(here, table), _rows(there, table)):
        digests = [_digest(row, is_server=is_server) for row in pair]
        if digests[0] != digests[1]:
            raise NotTheSame(
                f"{shown}: row {count + 1} of {table.name} is not the same on both sides: somebody "
                "has changed one of the two meanwhile. The copy cannot be used; empty it, and copy "
                "again"
            )
        for one, digest in zip(sums, digests, strict=True):
            one.update(digest)
        count += 1
    return Checked(table.name, count, sums[0].hexdigest())


def _digest(row: Mapping[str, Any] | None, *, is_server: bool) -> bytes:
    if row is None:
        return b""
    values = list(_storable(row, is_server=is_server).items())
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).digest()


def _storable(row: Mapping[str, Any], *, is_server: bool) -> dict[str, Any]:
    """Return a row as it is stored: PostgreSQL's text holds no NUL."""
    if not is_server:
        return dict(row)
    return {
        name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for name, value in row.items()
    }


def relative_folders(database: Database) -> Iterable[str]:
    """Return the output folders that are relative: they start elsewhere in another database."""
    with database.reading() as tx:
        rows = tx.rows(text("SELECT DISTINCT output_dir FROM batches ORDER BY output_dir"))
    return [row.output_dir for row in rows if not row.output_dir.startswith("/")]
