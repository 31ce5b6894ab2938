"""Whom a run tells how it goes, when, and in which words."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchgen import notify
from batchgen.cli import status
from batchgen.cli.configured import is_typed
from batchgen.cli.flags import Flags
from batchgen.cli.options import OCCASIONS
from batchgen.domain.errors import BatchgenError, Exit, UsageError
from batchgen.domain.redaction import redact_text
from batchgen.settings import NOTIFY_NAME, notify_urls, without_token
from batchgen.store.database import Database

logger = logging.getLogger(__name__)

_NAMED_BATCHES = 3  # in a title
_OCCASION_OF: Mapping[Exit, str] = {
    Exit.SUCCESS: "done",
    Exit.UNEXPECTED: "failed",
    Exit.MANIFEST: "failed",
    Exit.DATABASE: "failed",
    Exit.ALL_FAILED: "failed",
    Exit.SOME_FAILED: "failed",
    Exit.TOKEN: "paused",
    Exit.NO_BALANCE: "paused",
    Exit.UNREACHABLE: "paused",
    Exit.OUTPUT: "paused",
    Exit.HALTED: "paused",
    Exit.BUDGET: "budget",
    Exit.IN_DOUBT: "in-doubt",
}
"""What an exit code is an occasion for; whoever sent a signal or typed a mistake knows it."""


class Notices:
    """Decides what is worth a notification, and has it sent by others' threads.

    Args:
        database: Read for counts and money, by the thread that composes.
        flags: Who is to be told, and about what.

    Raises:
        UsageError: If apprise is missing, or does not understand one of the URLs.
    """

    def __init__(self, database: Database, flags: Flags) -> None:
        urls = [*flags.notify, *notify_urls()]
        if flags.notify_on is not None and not urls and is_typed("notify_on"):
            raise UsageError(
                f"--notify-on without anybody to tell would do nothing: set {NOTIFY_NAME}, or pass "
                "--notify"
            )
        self._notifiers = notify.notifiers(urls)
        self._wanted = frozenset(OCCASIONS) if flags.notify_on is None else flags.notify_on
        self._database = database
        self._is_simulated = flags.simulate
        self._messenger: notify.Messenger | None = None
        self._told: set[str] = set()
        self.log: Path | None = None
        self.batch_ids: Sequence[int] | None = None

    def begin(self, failed: Callable[[str, str], None]) -> None:
        """Start the threads that send; `failed` takes what was not delivered."""
        self._messenger = notify.Messenger(self._notifiers, failed=failed)

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Look whether an event is worth a notification."""
        match kind:
            case "paused" | "held" if fields["exit_code"] is not None:
                code = Exit(fields["exit_code"])
                self._tell_once(f"exit {code}", _OCCASION_OF.get(code), fields["message"])
            case "in_doubt":
                self._doubt(f"{fields['batch']}/{fields['job']}: {fields['message']}")
            case "took_over" if fields["what"] == "in_doubt":
                self._doubt(f"{fields['jobs']} job(s) of a worker that died")
            case "budget_warning":
                spent = fields["spent_usd"] + fields["reserved_usd"]
                self._tell_once(
                    f"budget {fields['batch']}",
                    "budget",
                    f"batch {fields['batch']} has spent or reserved ${spent:,.2f} of its budget of "
                    f"${fields['budget_usd']:,.2f}",
                )
            case _:
                pass  # nothing to get up for

    def _doubt(self, which: str) -> None:
        self._tell_once(
            "doubt",
            "in-doubt",
            f"in doubt, maybe paid for: {which}. It is not sent again by itself: "
            "`batchgen reconcile --list`",
        )

    def ended(self, codes: Sequence[Exit], reasons: Sequence[str]) -> None:
        """Tell how a run ended, unless that was told when it paused.

        Args:
            codes: Why it ended, the one of the exit code first.
            reasons: The same in words.
        """
        occasions = [_OCCASION_OF.get(codes[0])] if f"exit {codes[0]}" not in self._told else []
        if Exit.IN_DOUBT in codes[1:]:
            occasions.append("in-doubt")
        wanted = [one for one in occasions if one is not None and one in self._wanted]
        if wanted:
            self._send(" and ".join(wanted), "\n".join(reasons))

    def _tell_once(self, what: str, occasion: str | None, said: str) -> None:
        if occasion in self._wanted and what not in self._told:
            self._send(occasion or "", said)
        self._told.add(what)

    def _send(self, word: str, said: str) -> None:
        if self._messenger is not None and self._notifiers:
            self._messenger.send(lambda: self._compose(word, said))

    def _compose(self, word: str, said: str) -> notify.Message:
        """Return title and body: what happened, counts, money, what to type."""
        names, lines = self._standings()
        shown = ", ".join(names[:_NAMED_BATCHES])
        shown += f" and {len(names) - _NAMED_BATCHES} more" if len(names) > _NAMED_BATCHES else ""
        who = "batchgen (simulated)" if self._is_simulated else "batchgen"
        place = self._database.path.resolve() if self._database.path else self._database.shown
        body = [said, *lines, f"job database {place}, on {socket.gethostname()}"]
        if self.log is not None:
            body.append(f"log {self.log}")
        title = f"{who}: {word}: {shown}" if shown else f"{who}: {word}"
        return _clean(title), _clean("\n".join(body))

    def _standings(self) -> tuple[list[str], list[str]]:
        try:
            if not self._database.exists():
                return [], []
            with self._database.reading() as tx:
                found = status.standings(tx, self.batch_ids)
        except BatchgenError as error:
            return [], [f"counts and money are unknown: {error}"]
        lines = [line for standing in found for line in status.lines_of(standing)]
        return [standing.summary.name for standing in found], lines

    def close(self) -> None:
        """Wait for what is under way, for a bounded time."""
        if self._messenger is not None:
            self._messenger.close()
            self._messenger = None


def _clean(text: str) -> str:
    return redact_text(without_token(text))
