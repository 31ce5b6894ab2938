"""Where settings come from, beyond what the commands' tests see."""

from pathlib import Path

import pytest

from batchgen.settings import state_folder


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, Path("/state")),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, Path("/home/me/.local/state")),
        ({"XDG_STATE_HOME": "", "HOME": "/home/me"}, Path("/home/me/.local/state")),
        ({"HOME": "relative"}, None),
    ],
)
def test_the_state_folder_is_the_named_one_or_below_home(
    environment: dict[str, str], expected: Path | None
) -> None:
    assert state_folder(environment) == expected
