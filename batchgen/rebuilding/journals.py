"""Which journal is that of the lost job database, and which purchases of it an export lacks.

A journal names the job database's id, which no export does. What gives it away is a purchase
that both tell of: the same key with the same request id. Keys alone do not: another job
database with the same manifest, a simulated one for instance, has the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from batchgen.rebuilding.history import CLOCKS_MS
from batchgen.rebuilding.told import Told
from batchgen.store.journal import Contents, Entry


class Evidence(Enum):
    """What speaks for a journal being the lost job database's."""

    NAMED = "a person says so"
    PROVEN = "it knows a request of the export"
    POSSIBLE = "it knows purchases of the same jobs, and no request of the export"
    OTHER = "it knows other requests for what the export tells of"
    NONE = "it knows none of these jobs"


@dataclass
class Candidate:
    """A journal, and what rows have shown of it.

    Attributes:
        path: Its file.
        contents: What it holds.
        database_id: Of its job database; None if the file does not lie where journals do.
        is_named: Whether a person named it.
    """

    path: Path
    contents: Contents
    database_id: str | None = None
    is_named: bool = False
    by_key: Mapping[str, Sequence[Entry]] = field(init=False)
    _same: int = 0
    _others: int = 0
    _later: int = 0

    def __post_init__(self) -> None:
        by_key: dict[str, list[Entry]] = defaultdict(list)
        paid = (one for one in self.contents.entries if one.key and not one.is_unpaid)
        for entry in sorted(paid, key=lambda one: (one.intent_ms, one.attempt_id)):
            by_key[entry.key].append(entry)
        self.by_key = by_key

    def see(self, told: Told) -> None:
        """Hold it against a row."""
        entries = self.by_key.get(told.key)
        if not entries:
            return
        if told.request_id is not None and any(
            one.request_id == told.request_id for one in entries
        ):
            self._same += 1
        elif _speaks_against(told, entries):
            self._others += 1
        else:
            self._later += 1

    @property
    def jobs(self) -> int:
        """How many rows it knows purchases of."""
        return self._same + self._others + self._later

    @property
    def evidence(self) -> Evidence:
        """What it is, by all rows that have been seen."""
        if self.is_named:
            return Evidence.NAMED
        if self._same:
            return Evidence.PROVEN
        if self._others:
            return Evidence.OTHER
        return Evidence.POSSIBLE if self._later else Evidence.NONE

    @property
    def is_taken(self) -> bool:
        """Whether its purchases count as the lost job database's."""
        return self.evidence in (Evidence.NAMED, Evidence.PROVEN)

    @property
    def reaches_export(self) -> bool:
        """Whether it goes back to what the export knows: then it tells of all that came later."""
        return bool(self._same) or self.contents.after is None


def identity_of(candidates: Sequence[Candidate]) -> str | None:
    """Return the id of the lost job database; None if no journal on this host tells it."""
    newest = max(
        (one for one in candidates if one.is_taken and one.database_id is not None),
        key=lambda one: max((entry.intent_ms for entry in one.contents.entries), default=0),
        default=None,
    )
    return None if newest is None else newest.database_id


def _speaks_against(told: Told, entries: Sequence[Entry]) -> bool:
    """Return whether purchases cannot be those of a row: it was bought once, as another request."""
    if told.request_id is None or told.submitted_ms is None or told.attempts != 1:
        return False
    first = entries[0]
    return first.request_id is not None and first.intent_ms <= told.submitted_ms + CLOCKS_MS
