"""The service that an account of the job database is paid at."""

from dataclasses import dataclass

from batchgen.domain.errors import UsageError
from batchgen.http import origin_of
from batchgen.providers.runcomfy import DEFAULT_BASE, RunComfy, checked_base, is_loopback_base
from batchgen.settings import Token, api_base, find_token
from batchgen.store import accounts
from batchgen.store.accounts import Account
from batchgen.store.database import Transaction


@dataclass(frozen=True)
class Service:
    """Where an account's requests are, and what opens them."""

    account: Account
    base: str
    token: Token

    def connect(self) -> RunComfy:
        """Return a client; call it inside the event loop and close it there."""
        return RunComfy(base=self.base, token=self.token.text)

    @property
    def is_local(self) -> bool:
        """Whether the service is a stand-in on this machine."""
        return is_loopback_base(self.base)


def find(tx: Transaction, account_name: str) -> Service:
    """Return the service of an account that has jobs already.

    Raises:
        UsageError: If there is no such account, or its jobs were paid at another service.
        TokenMissing: If there is no token.
    """
    account = accounts.find(tx, RunComfy.name, account_name)
    if account is None:
        raise UsageError(f"this job database has no account {account_name!r}: see --account")
    base = checked_base(api_base() or DEFAULT_BASE)
    accounts.check_origin(account, origin_of(base))
    return Service(account, base, find_token())
