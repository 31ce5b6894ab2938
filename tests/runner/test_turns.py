import asyncio
import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from batchgen.runner import turns
from batchgen.runner.turns import TOGETHER, Selector

MANY = 3 * TOGETHER + 5


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(MANY)]
        for pair in made:
            for one in pair:
                stack.enter_context(closing(one))
        yield made


def _watched(selector: Selector, pairs: list[Pair]) -> None:
    for near, far in pairs:
        selector.register(near, selectors.EVENT_READ)
        far.send(b"x")


def test_no_turn_is_handed_more_than_a_few_and_nobody_waits_for_ever(
    pairs: list[Pair],
) -> None:
    with closing(Selector()) as selector:
        _watched(selector, pairs)  # and nobody reads: all stay ready

        for _ in range(2):
            rounds = [selector.select(0) for _ in range(4)]

            assert [len(found) for found in rounds] == [TOGETHER, TOGETHER, TOGETHER, 5]
            assert {key.fd for found in rounds for key, _ in found} == {
                near.fileno() for near, _ in pairs
            }


def test_a_socket_that_was_closed_meanwhile_is_not_taken_for_one_that_got_its_number(
    pairs: list[Pair],
) -> None:
    with closing(Selector()) as selector:
        _watched(selector, pairs)
        first = {key.fd for key, _ in selector.select(0)}
        near, _ = next(pair for pair in pairs if pair[0].fileno() not in first)
        number = near.fileno()
        selector.unregister(near)
        with socket.socket() as quiet:
            os.dup2(quiet.fileno(), number)  # as if it had been closed, and the next one opened
        selector.register(number, selectors.EVENT_READ)

        found = [key.fd for _ in range(3) for key, _ in selector.select(0)]

        assert len(found) == MANY - TOGETHER - 1
        assert number not in found


def test_a_loop_reads_every_socket_a_few_in_a_turn(
    pairs: list[Pair],
) -> None:
    read: list[int] = []
    in_a_turn: list[int] = []

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def take(near: socket.socket) -> None:
            read.append(len(near.recv(9)))
            if len(read) == MANY:
                done.set()

        for near, far in pairs:
            near.setblocking(False)
            loop.add_reader(near, take, near)
            far.send(b"x")
        while not done.is_set():
            before = len(read)
            await asyncio.sleep(0)
            in_a_turn.append(len(read) - before)

    turns.run(main())

    assert read == [1] * MANY
    assert max(in_a_turn) == TOGETHER
