"""Where an error comes from does not decide whether a secret is shown."""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import pytest
from store.stored_jobs import Store

from batchgen.cli import main
from batchgen.cli.common import log_to_stderr
from batchgen.cli.session import say
from batchgen.domain.errors import BatchgenError, StoreError
from batchgen.settings import without_token
from batchgen.store.statements import text

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
SIGNED = "https://b.test/a.mp4?X-Amz-Signature=5ecret"
SAID = f"Bearer {TOKEN} may not fetch {SIGNED} (postgresql://me:5ecret@db.test/jobs)"


def leave_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_: Any) -> NoReturn:
        raise error from ValueError(SAID)

    monkeypatch.setattr(main.cli, "main", fail)
    monkeypatch.setattr(sys, "argv", ["batchgen", "status"])
    with pytest.raises(SystemExit):
        main.main()


@pytest.mark.parametrize("error", [RuntimeError(SAID), BatchgenError(SAID), LookupError()])
def test_no_exception_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    leave_with(monkeypatch, error)

    reports = [path.read_text() for path in tmp_path.iterdir()]
    assert len(reports) == (not isinstance(error, BatchgenError))
    said = capsys.readouterr().err + "".join(reports)
    assert "Error: " in said
    assert TOKEN not in said
    assert "5ecret" not in said


def test_no_line_of_the_log_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", TOKEN)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)

    log_to_stderr(verbose=True)
    try:
        int(SAID)
    except ValueError:
        logging.getLogger("aiohttp.client").exception("%s", SAID)
    say(f"fetching {SIGNED}")

    said = capsys.readouterr().err
    assert "Bearer [token] may not fetch https://b.test/a.mp4?[redacted]" in said
    assert "Traceback" in said
    assert TOKEN not in said
    assert "5ecret" not in said


def test_a_failed_statement_does_not_show_what_it_would_have_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError) as failed, store.database.transaction() as tx:
        tx.run(text("INSERT INTO nowhere VALUES (:inputs)"), {"inputs": SIGNED})
    store.close()

    assert "no such table" in str(failed.value)
    assert "5ecret" not in "".join(traceback.format_exception(failed.value))


def test_what_the_service_wrote_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("\x1b[2J\x9b2J gone")

    said = capsys.readouterr().err
    assert said == "\\x1b[2J\\x9b2J gone\n"


def test_the_token_of_the_file_is_hidden_too(tmp_path: Path) -> None:
    (tmp_path / "token.json").write_text(f'{{"access_token": "{TOKEN}"}}')
    env = {"RUNCOMFY_CONFIG_DIR": str(tmp_path), "RUNCOMFY_TOKEN": "short"}

    assert without_token(f"{TOKEN} shorts short", env) == "[token] shorts [token]"
    assert without_token("nothing", {"RUNCOMFY_CONFIG_DIR": str(tmp_path / "none")}) == "nothing"
