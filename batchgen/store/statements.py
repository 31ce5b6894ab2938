"""SQL as it is written in this package: for both kinds of job database, prepared when it is run.

To start SQLAlchemy takes longer than all that `ls` or `status` do with a file, so a statement is
made a clause of it no sooner than a connection of it runs the statement.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import TextClause

_LOCK = " FOR NO KEY UPDATE"  # rows that refer to it may be stored meanwhile
_NOTHING = "(SELECT NULL WHERE 1 = 0)"  # what an empty list is


class Statement:
    """One statement in both kinds of SQL, with parameters as `:name`.

    Args:
        sqlite: The statement.
        postgresql: The same in the other SQL, if that differs.
        lists: The parameters that are lists, `IN :name`, with the type of what is in them.

    Attributes:
        sqlite: The statement.
        postgresql: The same in the other SQL.
        lists: As given.
    """

    __slots__ = ("_clauses", "lists", "postgresql", "sqlite")

    def __init__(
        self,
        sqlite: str,
        postgresql: str | None = None,
        lists: Mapping[str, type[int] | type[str]] | None = None,
    ) -> None:
        self.sqlite = sqlite
        self.postgresql = sqlite if postgresql is None else postgresql
        self.lists = lists or {}
        self._clauses: dict[bool, TextClause] = {}

    def listing(self, **lists: type[int] | type[str]) -> "Statement":
        """Return the statement with more parameters declared as lists."""
        return Statement(self.sqlite, self.postgresql, {**self.lists, **lists})

    def clause(self, *, is_postgresql: bool) -> "TextClause":
        """Return the statement as SQLAlchemy runs it."""
        found = self._clauses.get(is_postgresql)
        if found is None:
            found = self._clauses[is_postgresql] = self._clause(
                self.postgresql if is_postgresql else self.sqlite
            )
        return found

    def _clause(self, said: str) -> "TextClause":
        from sqlalchemy import BigInteger, Text, bindparam
        from sqlalchemy import text as clause

        if not self.lists:
            return clause(said)
        # With types: PostgreSQL wants to know of what an empty list is.
        return clause(said).bindparams(
            *(
                bindparam(name, expanding=True, type_=BigInteger() if kind is int else Text())
                for name, kind in self.lists.items()
            )
        )

    def on_file(self, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return the statement as sqlite3 runs it, where a list is a parameter for each value."""
        if not self.lists:
            return self.sqlite, values
        said, plain = self.sqlite, dict(values)
        for name in self.lists:
            listed: Sequence[Any] = plain.pop(name)
            plain |= {f"{name}_{at}": value for at, value in enumerate(listed)}
            places = ", ".join(f":{name}_{at}" for at in range(len(listed)))
            said = _place_of(name).sub(f"({places})" if listed else _NOTHING, said)
        return said, plain


@cache
def _place_of(name: str) -> re.Pattern[str]:
    return re.compile(rf":{name}\b")


def text(query: str) -> Statement:
    """Return a statement that is the same in both kinds of SQL."""
    return Statement(query)


def locking(query: str, *, of: str = "", skip_locked: bool = False) -> Statement:
    """Return a query that locks what it finds; on SQLite the transaction holds the one lock."""
    lock = _LOCK + (f" OF {of}" if of else "") + (" SKIP LOCKED" if skip_locked else "")
    return Statement(query, query + lock)


def among(query: str, *, locks: bool = False) -> Statement:
    """Return a query with `IN :values`, whose values come as one parameter: `Transaction.listed`.

    One parameter each would have a statement compiled anew for every number of them.

    Args:
        query: The query.
        locks: Lock what it finds; on SQLite the transaction holds the one lock.
    """
    return Statement(
        query.replace("IN :values", "IN (SELECT value FROM json_each(:values))"),
        query.replace("IN :values", "= ANY(:values)") + _LOCK * locks,
    )
