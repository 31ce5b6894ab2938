"""The query plans of statements as they really run, on both kinds of job database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from batchgen.store.transactions import Look, Transaction


@contextmanager
def plans_of(tx: Transaction) -> Iterator[list[str]]:
    """Collect the plan of each query that is asked in a transaction until the block ends.

    It is there when the block has ended: a line a step.
    """
    plans: list[str] = []
    if isinstance(tx, Look):
        said: list[str] = []
        tx.file.set_trace_callback(said.append)
        try:
            yield plans
        finally:
            tx.file.set_trace_callback(None)
        for statement in said:  # with its values in it
            plans.append(_text(tx.file.execute(f"EXPLAIN QUERY PLAN {statement}"), at=3))
        return

    def explain(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, is_many: bool
    ) -> None:
        parameters = values[0] if is_many else values
        if tx.is_postgresql:
            with cursor.connection.cursor() as beside:
                plans.append(_text(beside.execute(f"EXPLAIN {statement}", parameters), at=0))
        else:
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(_text(rows, at=3))

    event.listen(tx.connection.engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(tx.connection.engine, "before_cursor_execute", explain)


def _text(rows: Any, *, at: int) -> str:
    return "\n".join(row[at] for row in rows)
