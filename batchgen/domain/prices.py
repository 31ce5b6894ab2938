"""What a job will cost, as far as anybody can know: an estimate, always with its basis.

Three sources, the later ones stronger: the model's data that ships with batchgen, the
service's catalog, and what finished jobs of the same model and settings really cost.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from batchgen.domain.jobs import Model

PRICE_UNITS = ("second", "output")
CATALOG = "the service's catalog"
LIST = "list price"
_WARNED_SHARE = 0.8
_CENT_MICROS = 10_000


@dataclass(frozen=True)
class UnitPrice:
    """What the service's catalog says of one model.

    Attributes:
        micros: Of one unit, in micro-dollars.
        unit: "second" or "output".
    """

    micros: int
    unit: str


@dataclass(frozen=True)
class Paid:
    """What requests of one model and settings cost whose cost the service has stated.

    Attributes:
        jobs: Jobs that came to their end, but for those that failed free of charge: bought again
            they cost what the others did.
        attempts: Paid requests, of those jobs and of others.
        clips: Requests that gave a clip.
        micros: What all the requests cost together.
        clip_micros: What those cost that gave a clip.
    """

    jobs: int = 0
    attempts: int = 0
    clips: int = 0
    micros: int = 0
    clip_micros: int = 0

    def plus(self, micros: int, *, is_clip: bool, is_end: bool) -> "Paid":
        """Return the same with one more request, which may have been its job's last."""
        return Paid(
            self.jobs + (is_end and (is_clip or micros > 0)),
            self.attempts + 1,
            self.clips + is_clip,
            self.micros + micros,
            self.clip_micros + micros * is_clip,
        )

    @property
    def job_micros(self) -> int | None:
        """What a job costs until its end, failed requests included; None without any clip."""
        return round(self.micros / self.jobs) if self.clips and self.jobs else None

    @property
    def request_micros(self) -> int | None:
        """What one request that gives a clip costs; None if none has."""
        return round(self.clip_micros / self.clips) if self.clips else None


_NOTHING = Paid()


@dataclass
class Prices:
    """What is known of an account's prices.

    Attributes:
        paid: What finished jobs cost, by model and settings.
    """

    paid: dict[tuple[str, str], Paid] = field(default_factory=dict)

    def add(
        self, model: str, settings: str, micros: int, *, is_clip: bool, is_end: bool = True
    ) -> None:
        """Learn the stated cost of one more request.

        A clip that cost nothing tells no price: it was a gift, or its bill is still to come. To
        count with that would hold nothing of a budget back for what is in flight.
        """
        if is_clip and not micros:
            return
        key = model, settings
        self.paid[key] = self.paid.get(key, _NOTHING).plus(micros, is_clip=is_clip, is_end=is_end)

    def of_job(self, model: str, settings: str | None, listed: int | None) -> int | None:
        """Return what a job will probably cost until its end, in micro-dollars.

        Args:
            model: Model id.
            settings: `identity.settings_of` its inputs; None if not known.
            listed: What the list price makes it, None if there is none.
        """
        learned = self._paid(model, settings).job_micros
        return listed if learned is None else learned

    def of_request(self, model: str, settings: str | None, listed: int | None) -> int | None:
        """Return what one paid request will probably cost: what is reserved for it."""
        learned = self._paid(model, settings).request_micros
        return listed if learned is None else learned

    def jobs_seen(self, model: str, settings: str | None) -> int:
        """Return how many finished jobs `of_job` rests on; 0 means that it is the list price."""
        paid = self._paid(model, settings)
        return paid.jobs if paid.job_micros is not None else 0

    def _paid(self, model: str, settings: str | None) -> Paid:
        return _NOTHING if settings is None else self.paid.get((model, settings), _NOTHING)


@dataclass
class Estimate:
    """What some jobs will cost together, and what that rests on; money in micro-dollars.

    Attributes:
        jobs: How many they are.
        micros: What those of known price will probably cost.
        unpriced: How many have no known price.
        learned: How many are estimated by what jobs like them cost.
        seen: On how many finished jobs that rests.
    """

    jobs: int = 0
    micros: int = 0
    unpriced: int = 0
    learned: int = 0
    seen: int = 0
    _groups: set[tuple[str, str | None]] = field(default_factory=set)

    def add(
        self,
        prices: Prices,
        model: str,
        settings: str | None,
        *,
        listed: int | None,
        jobs: int = 1,
    ) -> None:
        """Count jobs of one model, settings and list price."""
        each = prices.of_job(model, settings, listed)
        seen = prices.jobs_seen(model, settings)
        self.jobs += jobs
        self.micros += (each or 0) * jobs
        self.unpriced += jobs if each is None else 0
        self.learned += jobs if seen else 0
        if seen and (model, settings) not in self._groups:
            self._groups.add((model, settings))
            self.seen += seen

    def basis(self, lists: Iterable[str]) -> str:
        """Return in words what it rests on.

        Args:
            lists: Where the list prices come from that some of it rests on.
        """
        parts = []
        if self.learned:
            finished = "1 finished job" if self.seen == 1 else f"{self.seen:,} finished jobs"
            parts.append(f"what {finished} like these cost")
        if self.jobs > self.learned + self.unpriced:
            parts += dict.fromkeys(filter(None, lists)) or [LIST]
        return "; ".join(parts)


def whole_cents(micros: int) -> int:
    """Return an estimate to the cent: more digits would promise too much."""
    return round(micros / _CENT_MICROS) * _CENT_MICROS if micros >= _CENT_MICROS else micros


class _Priced(Mapping[str, Model]):
    """Models at the service's prices; each is looked up only when it is asked for."""

    def __init__(self, models: Mapping[str, Model], catalog: Mapping[str, UnitPrice]) -> None:
        self._models = models
        self._catalog = catalog

    def __getitem__(self, name: str) -> Model:
        model, price = self._models[name], self._catalog.get(name)
        if price is None:
            return model
        return replace(model, price_micros=price.micros, price_unit=price.unit, price_basis=CATALOG)

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def priced(models: Mapping[str, Model], catalog: Mapping[str, UnitPrice]) -> Mapping[str, Model]:
    """Return models with the prices that the service's catalog states for them."""
    return _Priced(models, catalog)


def is_nearly_spent(used_micros: int, budget_micros: int) -> bool:
    """Return whether it is time to warn that a budget comes to its end."""
    return used_micros >= _WARNED_SHARE * budget_micros
