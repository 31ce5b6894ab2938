import builtins
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import hook
import pytest

from batchgen import notify
from batchgen.domain.errors import UsageError


@dataclass
class Listener:
    """Somebody who listens, and may hang or fail."""

    name: str = "listener"
    hangs: threading.Event | None = None
    error: Exception | None = None
    told: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, title: str, body: str) -> None:
        if self.hangs is not None:
            self.hangs.wait(60)
        if self.error is not None:
            raise self.error
        self.told.append((title, body))


@pytest.fixture
def failed() -> list[tuple[str, str]]:
    return []


def messenger(
    failed: list[tuple[str, str]], *to: notify.Notifier, send_s: float = 30.0, end_s: float = 30.0
) -> notify.Messenger:
    return notify.Messenger(
        to, failed=lambda name, why: failed.append((name, why)), send_s=send_s, end_s=end_s
    )


def own(caplog: pytest.LogCaptureFixture) -> str:
    """What batchgen's own loggers said."""
    found = [one.getMessage() for one in caplog.records if one.name.startswith("batchgen")]
    return "\n".join(found)


def test_everybody_is_told_in_order_and_a_message_is_composed_once(
    failed: list[tuple[str, str]],
) -> None:
    composed: list[int] = []

    def compose(number: int) -> notify.Message:
        composed.append(number)
        return f"title {number}", "body"

    first, second = Listener(), Listener()
    sender = messenger(failed, first, second)
    for number in range(5):
        sender.send(lambda number=number: compose(number))  # type: ignore[misc]
    sender.close()

    assert composed == list(range(5))
    assert first.told == second.told == [(f"title {number}", "body") for number in range(5)]
    assert failed == []


def test_one_that_hangs_holds_up_neither_the_others_nor_the_next_message(
    failed: list[tuple[str, str]],
) -> None:
    over = threading.Event()
    hanging, other = Listener("hanging", hangs=over), Listener()
    sender = messenger(failed, hanging, other, send_s=0.1)
    for number in range(2):
        sender.send(lambda number=number: (f"{number}", ""))  # type: ignore[misc]
    sender.close()
    over.set()

    assert failed == [("hanging", "no answer within 0.1 s")] * 2
    assert other.told == [("0", ""), ("1", "")]


def test_the_end_waits_only_so_long(failed: list[tuple[str, str]]) -> None:
    over = threading.Event()
    sender = messenger(failed, Listener("hanging", hangs=over), end_s=0.1)
    sender.send(lambda: ("", ""))
    sender.close()
    over.set()

    assert failed == [("hanging", "the run ended before it was delivered")]


@pytest.mark.parametrize(
    ("error", "why"),
    [(notify.NotSent("it was not taken"), "it was not taken"), (OSError("s3cret"), "OSError")],
)
def test_a_failure_is_logged_and_told_without_a_stranger_s_words(
    failed: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    why: str,
) -> None:
    with caplog.at_level(logging.WARNING, "batchgen"):
        sender = messenger(failed, Listener(error=error))
        sender.send(lambda: ("", ""))
        sender.close()

    [(name, said)] = failed
    assert name == "listener"
    assert why in said
    assert "s3cret" not in said + caplog.text
    assert said in caplog.text


def test_a_message_that_cannot_be_composed_harms_nothing(failed: list[tuple[str, str]]) -> None:
    def compose() -> notify.Message:
        raise RuntimeError("no counts")

    sender = messenger(failed, Listener())
    sender.send(compose)
    sender.close()

    assert failed == [("listener", "it failed (RuntimeError)")]


def test_apprise_delivers_title_and_body_as_they_are() -> None:
    title, body = "batchgen: done", "a <b> & *c*\n  2 succeeded\nhttps://example.com/x_y_z"
    with hook.running() as server:
        [notifier] = notify.notifiers([server.url])
        notifier.tell(title, body)

        assert server.only() == (title, body)
    assert hook.SECRET not in notifier.name


@pytest.mark.parametrize("status", [500, 404])
def test_an_answer_that_is_no_success_is_a_failure(
    status: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with hook.running(status) as server:
        [notifier] = notify.notifiers([server.url])
        with pytest.raises(notify.NotSent) as failed:
            notifier.tell("title", "body")

    shown = str(failed.value) + own(caplog) + "".join(capsys.readouterr())
    assert hook.SECRET not in shown


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with hook.running() as server:
        url = server.url
    [notifier] = notify.notifiers([url])

    with pytest.raises(notify.NotSent):
        notifier.tell("title", "body")


@pytest.mark.parametrize(
    "url",
    [
        "s3cret",
        "nothing://s3cret",
        "tgram://s3cret",
        "json://",
        "slack://s3cret/a",
        "",
    ],
)
def test_a_url_that_apprise_does_not_understand_is_refused_without_being_shown(
    url: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="notification URL 2") as refused:
        notify.notifiers(["json://127.0.0.1:9/", url])

    assert "s3cret" not in str(refused.value) + "".join(capsys.readouterr()) + own(caplog)
    # pytest listens to loggers that hand nothing on; the user's handler does not.
    assert not logging.getLogger("apprise").propagate


def test_without_apprise_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name == "apprise":
            raise ModuleNotFoundError(name)
        return usual(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(UsageError, match=r"batchgen-cli\[notify\]"):
        notify.notifiers(["json://127.0.0.1:9/"])
    assert notify.notifiers([]) == []
