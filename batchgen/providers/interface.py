"""What the runner asks of a provider, and the answers it gets.

A provider raises the `ProviderError`s of `batchgen.domain.errors`, named by what the runner
must do. It keeps no state of jobs and knows no database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from batchgen.domain.errors import ProviderError
from batchgen.domain.models import Entry
from batchgen.domain.prices import UnitPrice


class Phase(StrEnum):
    """What a look at a request found."""

    QUEUED = "in_queue"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Accepted:
    """A paid request was accepted.

    Attributes:
        request_id: The provider's id, `[A-Za-z0-9_-]{1,128}`.
        raw: The answer's body as text, kept with the attempt.
    """

    request_id: str
    raw: str


@dataclass(frozen=True)
class Look:
    """One look at a request.

    Attributes:
        phase: What batchgen understands.
        remote_state: The provider's own word, lower-cased; unknown words are `IN_PROGRESS`.
        known_word: False if `remote_state` is a word batchgen does not know: warn once.
        queue_position: Only while queued and only if stated.
        output_urls: Of a success, in order; never an echoed input. Empty if none was found.
        cost_micros: The stated cost in micro-dollars, None if not stated (yet).
        created_at: When the provider says it began, if it says so in a form that parses.
        finished_at: When the provider says it ended, likewise.
        error_code: Of a failure, the provider's code if one can be found.
        error_text: Of a failure, what it says, in one line.
        echoed_inputs: The inputs the provider repeats, if it does.
        raw: The answer's body as text.
    """

    phase: Phase
    remote_state: str
    raw: str
    known_word: bool = True
    queue_position: int | None = None
    output_urls: tuple[str, ...] = ()
    cost_micros: int | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error_text: str | None = None
    echoed_inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CatalogPage:
    """Some of what a catalog says.

    Attributes:
        entries: Those that can be used.
        refused: What is left out, by its name and with the reason.
        seen: How many the page held.
        total: How many there are in all, if stated.
    """

    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]
    seen: int
    total: int | None


@dataclass(frozen=True)
class Greeting:
    """The first thing that a service says, to a question that costs nothing.

    Attributes:
        at: When it says it is; None if it does not, or not in a form that parses.
        balance_micros: What the account holds, None if it was not told.
        trouble: Why it was not told.
    """

    at: datetime | None
    balance_micros: int | None = None
    trouble: ProviderError | None = None


class Greeter(Protocol):
    """A service that can be looked at before anything is wanted of it."""

    async def greet(self, *, with_token: bool) -> Greeting:
        """Ask for the balance once.

        Args:
            with_token: Else it is asked as by a stranger, and says no more than that it is there.

        Raises:
            Unavailable: If nothing answers.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class CatalogReader(Protocol):
    """A service that says which models it has, and what they take."""

    async def entry(self, model: str) -> Entry:
        """Return what the catalog says of one model.

        Raises:
            ModelBlocked: If the service does not know it, or says nothing that could be used.
            ProviderError: As `Provider.poll`.
        """
        ...

    async def entries(self, *, search: str | None, limit: int, offset: int) -> CatalogPage:
        """Return a page of the catalog, input schemas included.

        Raises:
            ProviderError: As `Provider.poll`.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Provider(Protocol):
    """A service that makes clips for money."""

    name: str
    origin: str  # scheme://host:port of the API: accounts are bound to it

    async def submit(self, model: str, inputs: Mapping[str, Any]) -> Accepted:
        """Send the paid request once.

        Raises:
            Unsent: Provably nothing left; nothing was paid.
            Throttled: Refused for now; nothing was paid.
            Rejected: Refused for good; nothing was paid.
            Misrouted: Refused without a code; nothing was paid.
            AccountBlocked: Token or balance; nothing was paid.
            ModelBlocked: The model is unknown; nothing was paid.
            OutcomeUnknown: Anything else, cancellation included in the caller's reading.
        """
        ...

    async def poll(self, model: str, request_id: str) -> Look:
        """Look at a request once, at its result.

        Raises:
            Unavailable: Nothing was learned; try again later.
            Throttled: As `Unavailable`, with a wait.
            AccountBlocked: The token does not open this request.
            RequestLost: The provider does not know the request.
        """
        ...

    async def queue_position(self, request_id: str) -> int | None:
        """Return the position in the provider's queue, None if not queued or not stated.

        Raises:
            ProviderError: As `poll`.
        """
        ...

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation; return whether the provider says it was accepted.

        Raises:
            ProviderError: As `poll`.
        """
        ...

    async def balance_micros(self) -> int:
        """Return the wallet's balance in micro-dollars.

        Raises:
            ProviderError: As `poll`.
        """
        ...

    async def price(self, model: str) -> UnitPrice | None:
        """Return what the provider's catalog says that a model costs, None if it does not say.

        Raises:
            ProviderError: As `poll`.
        """
        ...

    def use_token(self, token: str) -> None:
        """Send this token from now on.

        Raises:
            AccountBlocked: If it cannot be one.
        """
        ...

    async def is_reachable(self) -> bool:
        """Ask for something free; return whether a proper answer came, an error included."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
