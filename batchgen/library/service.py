"""The service that requests go to, as the environment names it."""

from dataclasses import dataclass

from batchgen.domain.errors import UsageError
from batchgen.http import origin_of
from batchgen.providers import factory
from batchgen.providers.interface import CatalogReader, Greeter, Provider
from batchgen.providers.runcomfy import DEFAULT_BASE, RunComfy, checked_base, is_loopback_base
from batchgen.settings import BASE_NAME, Token, api_base


@dataclass
class Service:
    """Where requests go, and what opens it.

    Attributes:
        base: Of the API.
        origin: What accounts are bound to.
        token: None until it is looked for; the stand-in needs none.
    """

    base: str
    origin: str
    token: Token | None = None

    def connect(self) -> Provider:
        """Return a client; close it in the event loop that has used it."""
        token = self.token.text if self.token else "simulated"
        return factory(RunComfy.name)(base=self.base, token=token)

    def connect_catalog(self) -> CatalogReader:
        """Return a client of the service's catalog; as `connect`."""
        token = self.token.text if self.token else "simulated"
        return RunComfy(base=self.base, token=token)

    def connect_greeter(self, *, within_s: float) -> Greeter:
        """Return a client that asks once and waits no longer than that; as `connect`."""
        token = self.token.text if self.token else "none"
        return RunComfy(base=self.base, token=token, connect_s=within_s / 2, get_s=within_s)

    @property
    def is_local(self) -> bool:
        """Whether the service is a stand-in on this machine."""
        return is_loopback_base(self.base)


def configured() -> Service:
    """Return the service that the environment names, without a token yet.

    Raises:
        UsageError: If no token may go there.
    """
    try:
        base = checked_base(api_base() or DEFAULT_BASE)
    except UsageError as error:
        raise UsageError(f"{BASE_NAME}: {error}: correct it, or unset it") from error
    return Service(base, origin_of(base))
