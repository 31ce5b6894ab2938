"""The query plans of statements as they really run, on both kinds of job database."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import event

from batchgen.store.transactions import OnFile, Transaction


@contextmanager
def plans_of(tx: Transaction) -> Iterator[list[str]]:
    """Collect the plan of each query that is asked in a transaction until the block ends.

    It is there when the block has ended: a line a step.
    """
    plans: list[str] = []
    if isinstance(tx, OnFile):
        file, listening = tx.file, _Listening(tx.file)
        tx.file = cast(sqlite3.Connection, listening)
        try:
            yield plans
        finally:
            tx.file = file
        for statement, values in listening.asked:
            plans.append(_text(file.execute(f"EXPLAIN QUERY PLAN {statement}", values), at=3))
        return

    def explain(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, is_many: bool
    ) -> None:
        parameters = values[0] if is_many else values
        with cursor.connection.cursor() as beside:
            plans.append(_text(beside.execute(f"EXPLAIN {statement}", parameters), at=0))

    event.listen(tx.connection.engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(tx.connection.engine, "before_cursor_execute", explain)


class _Listening:
    """A connection of sqlite3 that keeps what is asked, with its values beside it.

    With its values in it, a query could have an index that it has not as it is asked.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._file = file

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        self.asked.append((statement, values))
        return self._file.execute(statement, values)

    def executemany(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        self.asked.append((statement, values[0]))
        return self._file.executemany(statement, values)


def _text(rows: Any, *, at: int) -> str:
    return "\n".join(row[at] for row in rows)
