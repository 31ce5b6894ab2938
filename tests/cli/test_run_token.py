import json
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Place, rows_of

from batchgen.domain.errors import UsageError
from batchgen.providers.simulator import Settings, start_in_thread
from batchgen.settings import TokenMissing, find_token


def test_the_environment_wins_over_the_token_file(tmp_path: Path) -> None:
    (tmp_path / "token.json").write_text(json.dumps({"access_token": "filed"}))
    folder = {"RUNCOMFY_CONFIG_DIR": str(tmp_path)}

    assert find_token({**folder, "RUNCOMFY_API_TOKEN": "b"}).text == "b"
    assert find_token({**folder, "RUNCOMFY_TOKEN": "a", "RUNCOMFY_API_TOKEN": "b"}).text == "a"
    assert find_token(folder).text == "filed"


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (None, TokenMissing),
        ("{", UsageError),
        ("[]", UsageError),
        ('{"access_token": ""}', TokenMissing),
        ('{"refresh_token": "r"}', UsageError),
    ],
)
def test_without_a_usable_token_file_the_message_says_what_to_set(
    tmp_path: Path, written: str | None, error: type[Exception]
) -> None:
    if written is not None:
        (tmp_path / "token.json").write_text(written)

    with pytest.raises(error, match="RUNCOMFY_TOKEN"):
        find_token({"RUNCOMFY_CONFIG_DIR": str(tmp_path)})


def test_a_token_is_not_shown_by_its_representation() -> None:
    assert "hush" not in repr(find_token({"RUNCOMFY_TOKEN": "hush"}))


def test_a_token_stored_anew_takes_over_from_a_refused_one(tmp_path: Path) -> None:
    (tmp_path / "token.json").write_text(json.dumps({"access_token": "old-token"}))
    settings = Settings(token="old-token", run_s=(0.1, 0.2))
    with start_in_thread(settings) as service:
        place = Place(tmp_path, service)
        manifest = place.write(rows_of(12))
        env = {"RUNCOMFY_TOKEN": None, "RUNCOMFY_CONFIG_DIR": str(tmp_path)}
        running = place.start_run(str(manifest), "-j", "2", env=env)
        service.wait_until(lambda counters: counters.accepted >= 3)
        (tmp_path / "token.json").write_text(json.dumps({"access_token": "new-token"}))
        service.settings = replace(settings, token="new-token")
        done = running.wait()

        assert done.code == 0, done.err
        assert "newer one" in done.err
        assert place.states() == {"succeeded": 12}
        assert service.ledger.counters.accepted == 12


def test_a_budget_without_its_manifest_is_refused(tmp_path: Path) -> None:
    with start_in_thread(Settings()) as service:
        place = Place(tmp_path, service)
        place.run(str(place.write(rows_of(2))), "--limit", "1")
        done = place.run("--budget", "0.30")

        assert done.code == 2
        assert "--budget without a manifest" in done.err
        assert service.ledger.counters.accepted == 1
