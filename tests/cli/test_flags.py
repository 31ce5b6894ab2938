import pytest

from batchgen.cli import run
from batchgen.cli.flags import Flags


def flags_of(*words: str) -> Flags:
    with run.command.make_context("run", list(words)) as context:
        return Flags(**context.params)


@pytest.mark.parametrize(
    ("words", "per_s"),
    [
        pytest.param((), 100, id="bounded"),
        pytest.param(("--simulate",), 100, id="simulated-too"),
        pytest.param(("--poll-interval", "0"), None, id="no-wait-no-bound"),
        pytest.param(("--poll-interval", "0", "--poll-rate", "7"), 7, id="unless-asked-for"),
        pytest.param(("--poll-rate", "0.5"), 0.5, id="less-than-one-a-second"),
    ],
)
def test_looks_are_bounded_unless_there_is_no_wait_between_them(
    words: tuple[str, ...], per_s: float | None
) -> None:
    assert flags_of(*words).settings(4).poll_rate == per_s
