"""Check input files before anything is paid: each URL once, whoever uses it.

`Inspection.collect` takes the jobs, `look` finds out about their URLs (what was believed lately
is not looked at again), `check` judges a job by what was found. It holds every distinct URL with
what it answered, about half a kilobyte each.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from batchgen.buckets.location import is_location
from batchgen.domain.fitness import (
    MOODS,
    Facts,
    Need,
    Problem,
    judge,
    need_of,
)
from batchgen.domain.input_files import parse_input_file
from batchgen.domain.jobs import Model
from batchgen.domain.redaction import redact_url
from batchgen.http import is_genuine, probe_client, resolves
from batchgen.inputs.objects import look_at
from batchgen.manifests.media import media_urls, url_problem
from batchgen.probes.pace import POLITE, Pace, probe_all
from batchgen.probes.prober import CONNECT_S, PROBE_S, Prober, Target
from batchgen.store.probes import Seen, hash_of

BELIEVED_MS = 24 * 3600 * 1000
"""How long a file that answered well is believed to be what it was."""

_NUMBER = re.compile(r"\.[0-9]+(?=\.|$)")  # of a part of a list

_ANSWERED = (None, Problem.STATUS, Problem.EMPTY, Problem.TEXT)
"""What a host has said itself; a busy proxy or the log-in page of a network may say the rest."""

CONTROL_HOST = "model-api.runcomfy.net"
"""A name that is known wherever there is a network, and whom the files are for."""

Cached = Callable[[Sequence[str]], Mapping[str, Seen]]
"""Returns what is believed, by hash."""


class Said(NamedTuple):
    """One thing to be said of a job: which input, what about it, its URL without secrets."""

    input: str
    words: str
    url: str

    @property
    def message(self) -> str:
        """Return it without the input's name."""
        return f"{self.words} <{self.url}>"

    def __str__(self) -> str:
        return f"{self.input}: {self.message}"


@dataclass(frozen=True)
class Finding:
    """What is to be said of a job's input files.

    Attributes:
        faults: What prevents that it is paid for.
        warnings: What may be a mood, or cannot be judged from here.
        is_sure: Whether every file was looked at, and answered.
    """

    faults: tuple[Said, ...] = ()
    warnings: tuple[Said, ...] = ()
    is_sure: bool = True

    @property
    def is_fit(self) -> bool:
        """Whether the job can surely be paid for."""
        return self.is_sure and not self.faults

    @property
    def reason(self) -> str | None:
        """Why the job cannot be paid for, None if it can."""
        return "; ".join(map(str, self.faults)) or None


class Inspection:
    """The input files of some jobs.

    Args:
        models: By id; the jobs of others are not judged.
        allow_private: Whether private and loopback addresses are meant.
        pace: How many at once, and how fast.
        probe_s: The longest that one URL may take.
        resolves: Whether a host's name is known to the network.
        is_genuine: Whether who answers for a host has its certificate.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        allow_private: bool,
        pace: Pace = POLITE,
        probe_s: float = PROBE_S,
        resolves: Callable[[str], bool] = resolves,
        is_genuine: Callable[[str], bool] = is_genuine,
    ) -> None:
        self._is_genuine = is_genuine
        self._resolves = resolves
        self._models = models
        self._allow_private = allow_private
        self._pace = pace
        self._probe_s = probe_s
        self._needs: dict[tuple[str, str, str], Need] = {}
        self._wanted: dict[str, tuple[Need, ...]] = {}
        self._shared: dict[tuple[Need, ...], tuple[Need, ...]] = {}
        self._facts: dict[str, Facts] = {}
        self._fresh: list[str] = []
        self.believed = 0
        self.oldest_ms: int | None = None

    @property
    def files(self) -> int:
        """How many distinct URLs there are."""
        return len(self._wanted)

    def collect(self, jobs: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the URLs of jobs, each a model and its inputs."""
        for model, inputs in jobs:
            for _, url, need in self._files(model, inputs):
                known = self._wanted.get(url, ())
                if need not in known:
                    wanted = (*known, need)
                    # Nearly all files are needed alike.
                    self._wanted[url] = self._shared.setdefault(wanted, wanted)

    def look(self, *, cached: Cached | None, tell: Callable[[int, int], None]) -> None:
        """Find out about every URL that was collected.

        Args:
            cached: What is believed without a look; None is nothing.
            tell: Told how many of how many have been looked at.
        """
        if cached is not None:
            self._believe(cached)
        targets, objects = [], []
        for url, needs in self._wanted.items():
            if url in self._facts:
                continue
            if is_location(url):
                objects.append((url, any(need.needs_pixels for need in needs)))
                continue
            problem = url_problem(url, allow_private=self._allow_private)
            if problem is not None:  # it was stored when this was allowed
                self._facts[url] = Facts(Problem.URL, problem)
                continue
            targets.append(Target(url, any(need.needs_pixels for need in needs)))
        for number, (url, facts) in enumerate(look_at(objects), 1):
            self._facts[url] = facts
            self._fresh.append(url)
            tell(number, len(objects))
        if targets:
            asyncio.run(self._probe(targets, tell))
            self._doubt_the_network()

    def _doubt_the_network(self) -> None:
        """Take what only a network may be to blame for as a mood, if no host at all answered.

        Without DNS no name is known; the log-in page of a hotel shows its own certificate for
        every host.
        """
        if any(self._facts[url].problem in _ANSWERED for url in self._fresh):
            return
        if self._have(Problem.NO_HOST) and not self._resolves(CONTROL_HOST):
            self._excuse(Problem.NO_HOST, "nor any other just now: is the network up?")
        if self._have(Problem.CERTIFICATE) and not self._is_genuine(CONTROL_HOST):
            words = "and no other host answered just now: does the network ask for a log-in?"
            self._excuse(Problem.CERTIFICATE, words)

    def _have(self, problem: Problem) -> bool:
        return any(self._facts[url].problem is problem for url in self._fresh)

    def _excuse(self, problem: Problem, words: str) -> None:
        for url in self._fresh:
            if self._facts[url].problem is problem:
                said = f"{self._facts[url].said}, {words}"
                self._facts[url] = Facts(Problem.UNREACHABLE, said)

    def _believe(self, cached: Cached) -> None:
        hashes = {url_hash: url for url in self._wanted if (url_hash := hash_of(url)) is not None}
        for url_hash, one in cached(list(hashes)).items():
            url = hashes[url_hash]
            # What is wrong may have been put right since.
            if all(_is_settled(one.facts, need) for need in self._wanted[url]):
                self._facts[url] = one.facts
                self.believed += 1
                self.oldest_ms = min(self.oldest_ms or one.seen_ms, one.seen_ms)

    async def _probe(self, targets: Sequence[Target], tell: Callable[[int, int], None]) -> None:
        def on_found(target: Target, facts: Facts) -> None:
            self._facts[target.url] = facts
            self._fresh.append(target.url)
            tell(len(self._fresh), len(targets))

        async with probe_client(
            connections=self._pace.at_once,
            allow_private=self._allow_private,
            connect_s=min(CONNECT_S, self._probe_s),
            read_s=self._probe_s,
        ) as client:
            probe = Prober(client, probe_s=self._probe_s).probe
            await probe_all(targets, probe, pace=self._pace, on_found=on_found)

    @property
    def looked_at(self) -> int:
        """How many URLs were looked at in `look`."""
        return len(self._fresh)

    def to_keep(self, now_ms: int) -> list[tuple[str, Seen]]:
        """Return what `look` found and may be believed later, by hash."""
        return [
            (url_hash, Seen(self._facts[url], now_ms))
            for url in self._fresh
            if self._facts[url].problem not in MOODS and (url_hash := hash_of(url)) is not None
        ]

    def check(self, model: str, inputs: Mapping[str, Any]) -> Finding:
        """Judge a job by what was found of its input files."""
        faults: dict[Said, None] = {}
        warnings: dict[Said, None] = {}
        is_sure = model in self._models
        for name, url, need in self._files(model, inputs):
            facts = self._facts.get(url)
            if facts is None:
                is_sure = False
                continue
            is_sure = is_sure and facts.problem not in MOODS
            verdict = judge(facts, need)
            shown = redact_url(url)
            faults |= {Said(name, words, shown): None for words in verdict.faults}
            warnings |= {Said(name, words, shown): None for words in verdict.warnings}
        return Finding(tuple(faults), tuple(warnings), is_sure)

    def _files(self, model: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str, Need]]:
        """Yield each input file of a job: its place, its URL, and what it must be."""
        known = self._models.get(model)
        if known is None:
            return
        for place, url, kind in media_urls(known, inputs):
            if parse_input_file(url) is not None:
                continue  # of this machine: looked at when it is named, and when it is sent
            key = (model, _NUMBER.sub(".", place), kind)
            if key not in self._needs:
                self._needs[key] = need_of(known, place, kind)
            yield place, url, self._needs[key]


def _is_settled(facts: Facts, need: Need) -> bool:
    lacks_pixels = need.needs_pixels and facts.width is None
    return not lacks_pixels and not judge(facts, need).is_fault
