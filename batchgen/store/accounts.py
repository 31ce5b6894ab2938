"""Accounts: who pays, at which origin, under which cap."""

from dataclasses import dataclass
from typing import Any

from batchgen.domain import adapting
from batchgen.domain.errors import UsageError
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction


@dataclass(frozen=True)
class Account:
    """The gate of everything that costs money.

    Attributes:
        cap: Jobs in flight over all workers.
        origin: The API's origin; None until the first run fixes it.
        token_hash: To warn when the token changes.
        rate_per_s: Submits a second over all workers; None has no bound.
        auto_max: The cap moves by itself up to this; None keeps it as it is.
        adapted: What has been learned by that; None as long as the cap is fixed.
    """

    id: int
    provider: str
    name: str
    cap: int
    origin: str | None
    token_hash: str | None
    paused: bool
    rate_per_s: float | None = None
    auto_max: int | None = None
    adapted: adapting.State | None = None


_ALL = (
    "SELECT id, provider, name, cap, origin, token_hash, paused, rate_per_s, auto_max, adapting "
    "FROM accounts"
)
_FIND = text(f"{_ALL} WHERE provider = :provider AND name = :name")
_EVERY = text(f"{_ALL} ORDER BY id")
_ADD = text(
    "INSERT INTO accounts (provider, name) VALUES (:provider, :name) "
    "ON CONFLICT (provider, name) DO NOTHING"
)
_BIND = text("UPDATE accounts SET origin = :origin WHERE id = :id AND origin IS NULL")
_TOKEN = text(  # locks the gate of all workers only if it has to
    "UPDATE accounts SET token_hash = :token_hash WHERE id = :id "
    "AND (token_hash IS NULL OR token_hash <> :token_hash)"
)
_CAP = text("UPDATE accounts SET cap = :cap, auto_max = NULL, adapting = NULL WHERE id = :id")
_AUTO = text(
    "UPDATE accounts SET auto_max = :auto_max, "
    "cap = CASE WHEN cap > :auto_max THEN :auto_max ELSE cap END WHERE id = :id"
)
_RATE = text("UPDATE accounts SET rate_per_s = :rate_per_s WHERE id = :id")
_PAUSE = text("UPDATE accounts SET paused = :paused WHERE id = :id")


def find(tx: Transaction, provider: str, name: str) -> Account | None:
    """Return an account, None if the job database does not know it yet."""
    row = tx.row(_FIND, {"provider": provider, "name": name})
    return None if row is None else _account(row)


def every(tx: Transaction) -> list[Account]:
    """Return every account of the job database, oldest first."""
    return [_account(row) for row in tx.rows(_EVERY)]


def _account(row: Any) -> Account:
    return Account(
        row.id,
        row.provider,
        row.name,
        row.cap,
        row.origin,
        row.token_hash,
        bool(row.paused),
        row.rate_per_s,
        row.auto_max,
        None if row.auto_max is None else adapting.load(row.adapting, cap=row.cap),
    )


def ensure(tx: Transaction, provider: str, name: str) -> Account:
    """Return an account, made if need be."""
    tx.run(_ADD, {"provider": provider, "name": name})
    account = find(tx, provider, name)
    if account is None:
        raise LookupError(f"account {provider}/{name} was not stored")
    return account


def check_origin(account: Account | None, origin: str) -> None:
    """Refuse a service other than the one the account's jobs were paid at.

    Raises:
        UsageError: If the origins differ.
    """
    if account is not None and account.origin is not None and account.origin != origin:
        raise UsageError(
            f"account {account.name!r} of this job database belongs to {account.origin}, not to "
            f"{origin}: set RUNCOMFY_MODEL_API_BASE back, or use another --account or --db"
        )


def bind(tx: Transaction, account: Account, *, origin: str, token_hash: str) -> None:
    """Fix the account's origin and remember which token was used."""
    check_origin(account, origin)
    tx.run(_BIND, {"id": account.id, "origin": origin})
    tx.run(_TOKEN, {"id": account.id, "token_hash": token_hash})


def bind_origin(tx: Transaction, account: Account, origin: str) -> None:
    """Fix the account's origin, before any run has: none goes to another service from then on."""
    tx.run(_BIND, {"id": account.id, "origin": origin})


def set_cap(tx: Transaction, account: Account, cap: int) -> None:
    """Store how many jobs may be in flight over all workers; the cap is fixed from then on."""
    tx.run(_CAP, {"id": account.id, "cap": cap})


def set_auto(tx: Transaction, account: Account, auto_max: int) -> None:
    """Let the cap move by itself, from where it is, up to `auto_max`."""
    tx.run(_AUTO, {"id": account.id, "auto_max": auto_max})


def set_rate(tx: Transaction, account: Account, rate_per_s: float | None) -> None:
    """Store how many submits a second all workers may make; None takes the bound away."""
    tx.run(_RATE, {"id": account.id, "rate_per_s": rate_per_s})


def set_paused(tx: Transaction, account: Account, *, paused: bool) -> None:
    """Pause or unpause every worker of the account."""
    tx.run(_PAUSE, {"id": account.id, "paused": paused})
