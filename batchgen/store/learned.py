"""What the attempts of an account tell of the next ones."""

from collections.abc import Generator
from dataclasses import dataclass

from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_MOST_MODELS = 100
_MOST_LOOKED_THROUGH = 1_000  # attempts of a model, so that a start is quick whatever is stored
# One step through the index a model: DISTINCT would walk along every attempt.
_NEXT_MODEL = text(
    "SELECT model FROM attempts WHERE account_id = :account_id "
    "AND state IN ('succeeded', 'failed') AND model > :model ORDER BY model LIMIT 1"
)
_NEWEST = text(
    "SELECT settings, run_ms FROM attempts WHERE account_id = :account_id "
    "AND state IN ('succeeded', 'failed') AND model = :model ORDER BY id DESC LIMIT :most"
)


@dataclass(frozen=True)
class Duration:
    """How long one generation took, from its acceptance to its end.

    Attributes:
        settings: The inputs that decide it, as JSON; "" if they were not stored.
    """

    model: str
    settings: str
    run_ms: int


def durations(tx: Transaction, account_id: int) -> Generator[Duration]:
    """Yield how long the newest generations of each model took, oldest first."""
    values = {"account_id": account_id, "model": "", "most": _MOST_LOOKED_THROUGH}
    for _ in range(_MOST_MODELS):
        model = tx.value(_NEXT_MODEL, values)
        if model is None:
            return
        values["model"] = model
        for row in reversed(tx.rows(_NEWEST, values)):
            if row.run_ms is not None:
                yield Duration(model, row.settings or "", row.run_ms)
