"""Look at many files at once, and politely at those of one host."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from batchgen.domain.fitness import Facts, Problem
from batchgen.probes.prober import Target

_OF_ITS_HOST = frozenset({Problem.PRIVATE, Problem.NO_HOST, Problem.CERTIFICATE})
_HANGING = frozenset({Problem.TIMEOUT, Problem.UNREACHABLE, Problem.BUSY})


@dataclass(frozen=True)
class Pace:
    """How fast files are looked at.

    Attributes:
        at_once: Over all hosts. A hung host takes only the first of its own before it is given
            up, so some dozen of them do not stop the others; and it stays below the 256 files
            that a process may open on macOS.
        host_first: At once at a host that has not answered yet.
        host_at_once: At once at a host; grows by one with each answer up to this. What a few
            browsers show of a gallery, and enough that files which hang for ten seconds each,
            three in a hundred, do not hold up the others.
        host_per_s: Begun a second at a host: 559 files in 11 seconds.
        give_up: A host that leaves so many in a row without an answer is not asked any more;
            one that never answered is given up after `host_first`.
    """

    at_once: int = 128
    host_first: int = 4
    host_at_once: int = 16
    host_per_s: float = 50
    give_up: int = 16


POLITE = Pace()


@dataclass
class _Host:
    """The files of one host that are still to be looked at."""

    name: str
    targets: deque[Target]
    allowed: int
    at_work: int = 0
    has_answered: bool = False
    silent: int = 0
    verdict: Facts | None = None  # holds for all that are left
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, facts: Facts, pace: Pace) -> None:
        """Take an answer, or its absence, into account."""
        if facts.problem in _OF_ITS_HOST:
            self.verdict = facts
        elif facts.problem in _HANGING:
            self.silent += 1
            if facts.problem is Problem.BUSY:
                self.allowed = max(1, self.allowed // 2)
            if self.silent >= (pace.give_up if self.has_answered else pace.host_first):
                self.verdict = Facts(
                    Problem.GIVEN_UP,
                    f"not looked at: {self.name} did not answer {self.silent} others in a row",
                )
        else:
            self.silent = 0
            self.has_answered = True
            self.allowed = min(self.allowed + 1, pace.host_at_once)


async def probe_all(
    targets: Iterable[Target],
    probe: Callable[[Target], Awaitable[Facts]],
    *,
    pace: Pace,
    on_found: Callable[[Target, Facts], None],
) -> None:
    """Look at every target, in any order.

    Args:
        targets: Each URL once.
        probe: Looks at one; never raises.
        pace: How many and how fast.
        on_found: Told what was found of each, as it is found.
    """
    slots = asyncio.Semaphore(pace.at_once)
    hosts: dict[str, _Host] = {}
    for target in targets:
        name = _host_of(target.url)
        host = hosts.setdefault(name, _Host(name, deque(), min(pace.host_first, pace.host_at_once)))
        host.targets.append(target)

    async def look(host: _Host, target: Target) -> None:
        try:
            facts = await probe(target)
        finally:
            slots.release()
            host.at_work -= 1
        host.note(facts, pace)
        host.changed.set()
        on_found(target, facts)

    async def serve(host: _Host, group: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while host.targets and host.verdict is None:
            if host.at_work >= host.allowed:
                host.changed.clear()
                await host.changed.wait()
            elif due_s > clock():
                await asyncio.sleep(due_s - clock())
            else:
                await slots.acquire()
                host.at_work += 1
                due_s = clock() + 1 / pace.host_per_s
                group.create_task(look(host, host.targets.popleft()))
        if host.verdict is not None:
            for target in host.targets:
                on_found(target, host.verdict)

    async with asyncio.TaskGroup() as group:
        for host in hosts.values():
            group.create_task(serve(host, group))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
