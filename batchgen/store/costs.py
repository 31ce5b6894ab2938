"""What finished requests cost, and what the service's catalog says that new ones will."""

import json
from collections.abc import Mapping
from typing import Any

from batchgen.domain.expansion import estimate_micros
from batchgen.domain.jobs import Model
from batchgen.domain.prices import Prices, UnitPrice
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_NEWEST = 1000  # of each model: prices change

_MODELS = text("SELECT schemas FROM batches WHERE account_id = :account_id")
_CLOSED = text(
    "SELECT job_id, job_version, settings, state, cost_micros FROM attempts "
    "WHERE account_id = :account_id AND model = :model AND state IN ('succeeded', 'failed') "
    "ORDER BY id DESC LIMIT :newest"
)
_CATALOG = text("SELECT model, unit_micros, unit FROM prices WHERE account_id = :account_id")
_KEEP = text(
    "INSERT INTO prices (account_id, model, unit_micros, unit, seen_ms) "
    "VALUES (:account_id, :model, :unit_micros, :unit, :now_ms) "
    "ON CONFLICT (account_id, model) DO UPDATE SET unit_micros = excluded.unit_micros, "
    "unit = excluded.unit, seen_ms = excluded.seen_ms"
)
_UNPAID = "(j.state = 'pending' OR (j.state = 'failed' AND j.unfit))"  # a probe may revive those
_LISTED = text(
    "SELECT DISTINCT j.settings, j.est_micros FROM jobs j JOIN batches b ON b.id = j.batch_id "
    f"WHERE {_UNPAID} AND b.account_id = :account_id AND j.model = :model "
    "AND j.settings IS NOT NULL"
)
_RELIST = text(
    f"UPDATE jobs AS j SET est_micros = :est_micros WHERE {_UNPAID} AND model = :model "
    "AND settings = :settings AND batch_id IN "
    "(SELECT id FROM batches WHERE account_id = :account_id)"
)


def prices(tx: Transaction, account_id: int) -> Prices:
    """Return what the newest finished requests of an account cost, by model and settings.

    A cost that the service has not stated teaches nothing.
    """
    found = Prices()
    for model in _models(tx, account_id):
        ended: set[tuple[int, int]] = set()
        for row in tx.rows(_CLOSED, {"account_id": account_id, "model": model, "newest": _NEWEST}):
            # The newest first: an older request of the same clip was not its last.
            clip = (row.job_id, row.job_version)
            is_end = clip not in ended
            ended.add(clip)
            if row.settings is not None and row.cost_micros is not None:
                found.add(
                    model,
                    row.settings,
                    row.cost_micros,
                    is_clip=row.state == "succeeded",
                    is_end=is_end,
                )
    return found


def _models(tx: Transaction, account_id: int) -> list[str]:
    names: dict[str, None] = {}
    for row in tx.rows(_MODELS, {"account_id": account_id}):
        names.update(dict.fromkeys(json.loads(row.schemas)))
    return list(names)


def catalog(tx: Transaction, account_id: int) -> dict[str, UnitPrice]:
    """Return the prices that the service's catalog stated last, by model."""
    return {
        row.model: UnitPrice(row.unit_micros, row.unit)
        for row in tx.rows(_CATALOG, {"account_id": account_id})
    }


def keep_catalog(
    tx: Transaction, account_id: int, stated: Mapping[str, UnitPrice], *, now_ms: int
) -> None:
    """Store what the service's catalog states now."""
    for model, price in stated.items():
        values: dict[str, Any] = {
            "account_id": account_id,
            "model": model,
            "unit_micros": price.micros,
            "unit": price.unit,
            "now_ms": now_ms,
        }
        tx.run(_KEEP, values)


def relist(tx: Transaction, account_id: int, models: Mapping[str, Model]) -> None:
    """Give jobs that wait, or may wait again, the list price of their model as it is now."""
    for model in models.values():
        key = {"account_id": account_id, "model": model.id}
        for row in tx.rows(_LISTED, key):
            listed = estimate_micros(model, json.loads(row.settings))
            if listed is not None and listed != row.est_micros:
                tx.run(_RELIST, {**key, "settings": row.settings, "est_micros": listed})
