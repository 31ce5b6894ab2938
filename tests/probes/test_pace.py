"""Many files at once, politely: what holds for any mix of hosts and answers."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.domain.fitness import Facts, Problem
from batchgen.probes.pace import Pace, probe_all
from batchgen.probes.prober import Target

ANSWERS = [None, Problem.STATUS, Problem.TIMEOUT, Problem.BUSY, Problem.UNREACHABLE]
FAST = 1e9


class Watched:
    """Answers as it is told, after some turns of the loop, and watches how many ask at once."""

    def __init__(self, answers: dict[str, Problem | None], turns: int = 3) -> None:
        self.answers = answers
        self.turns = turns
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.most_in_all = 0
        self.asked: Counter[str] = Counter()

    async def probe(self, target: Target) -> Facts:
        host = target.url.split("/")[2]
        self.asked[target.url] += 1
        self.now[host] += 1
        self.most[host] = max(self.most[host], self.now[host])
        self.most_in_all = max(self.most_in_all, self.now.total())
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.now[host] -= 1
        return Facts(self.answers[target.url])


def found_by(watched: Watched, pace: Pace) -> dict[str, Facts]:
    found: dict[str, Facts] = {}

    def keep(target: Target, facts: Facts) -> None:
        assert target.url not in found
        found[target.url] = facts

    targets = [Target(url, False) for url in watched.answers]
    asyncio.run(probe_all(targets, watched.probe, pace=pace, on_found=keep))
    return found


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(ANSWERS)), max_size=80),
    at_once=st.integers(1, 12),
    host_first=st.integers(1, 4),
    host_at_once=st.integers(1, 8),
    give_up=st.integers(1, 6),
)
def test_no_limit_is_passed_and_each_file_is_found_once(
    files: list[tuple[int, Problem | None]],
    at_once: int,
    host_first: int,
    host_at_once: int,
    give_up: int,
) -> None:
    answers = {f"https://h{host}.test/{n}": answer for n, (host, answer) in enumerate(files)}
    watched = Watched(answers)

    found = found_by(watched, Pace(at_once, host_first, host_at_once, FAST, give_up))

    assert found.keys() == answers.keys()
    assert watched.most_in_all <= at_once
    assert max(watched.most.values(), default=0) <= host_at_once
    assert set(watched.asked.values()) <= {1}
    for url, facts in found.items():
        assert facts.problem in (answers[url], Problem.GIVEN_UP)
        assert (facts.problem is Problem.GIVEN_UP) == (url not in watched.asked)


def test_a_host_that_answers_is_asked_by_as_many_as_may_be() -> None:
    watched = Watched({f"https://a.test/{n}": None for n in range(100)})

    found_by(watched, Pace(host_first=2, host_at_once=7, host_per_s=FAST))

    assert watched.most["a.test"] == 7


def test_a_host_that_never_answers_is_given_up_and_holds_up_no_other() -> None:
    dead: dict[str, Problem | None] = {f"https://dead.test/{n}": Problem.TIMEOUT for n in range(50)}
    good: dict[str, Problem | None] = {f"https://good.test/{n}": None for n in range(50)}
    watched = Watched(dead | good)

    found = found_by(watched, Pace(at_once=8, host_first=4, host_per_s=FAST))

    assert Counter(found[url].problem for url in dead) == {
        Problem.TIMEOUT: 4,
        Problem.GIVEN_UP: 46,
    }
    assert found["https://dead.test/49"].said == (
        "not looked at: dead.test did not answer 4 others in a row"
    )
    assert {found[url].problem for url in good} == {None}


def test_files_that_hang_among_others_do_not_cost_the_others() -> None:
    answers = {f"https://a.test/{n}": Problem.TIMEOUT if n % 3 == 2 else None for n in range(300)}

    assert {
        url: facts.problem
        for url, facts in found_by(Watched(answers), Pace(host_per_s=FAST)).items()
    } == answers


@pytest.mark.parametrize("problem", [Problem.PRIVATE, Problem.NO_HOST, Problem.CERTIFICATE])
def test_what_is_wrong_with_a_host_is_wrong_with_all_its_files(problem: Problem) -> None:
    watched = Watched({f"https://a.test/{n}": problem for n in range(100)})

    found = found_by(watched, Pace(host_first=1, host_at_once=1, host_per_s=FAST))

    assert {facts.problem for facts in found.values()} == {problem}
    assert watched.asked.total() == 1


def test_a_busy_host_is_asked_by_fewer() -> None:
    answers = {f"https://a.test/{n}": None if n < 40 else Problem.BUSY for n in range(90)}
    watched = Watched(answers)
    at_once: list[int] = []

    async def probe(target: Target) -> Facts:
        at_once.append(watched.now["a.test"] + 1)
        return await watched.probe(target)

    targets = [Target(url, False) for url in answers]
    pace = Pace(host_at_once=8, host_per_s=FAST, give_up=20)
    asyncio.run(probe_all(targets, probe, pace=pace, on_found=lambda *_: None))

    assert max(at_once) == 8
    assert at_once[-5:] == [1] * 5


def test_requests_begin_no_faster_than_the_rate() -> None:
    times: list[float] = []

    async def probe(_: Target) -> Facts:
        times.append(asyncio.get_running_loop().time())
        return Facts()

    async def probing() -> None:
        times.append(asyncio.get_running_loop().time())
        targets = [Target(f"https://a.test/{n}", False) for n in range(11)]
        await probe_all(targets, probe, pace=Pace(host_per_s=200), on_found=lambda *_: None)

    asyncio.run(probing())

    assert times[-1] - times[0] >= 10 / 200
