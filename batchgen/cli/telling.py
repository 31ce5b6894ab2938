"""Everything a run tells others: events, log, notifications; and how it ends for them."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batchgen import __version__, settings
from batchgen.cli.common import is_terminal, usd_number
from batchgen.cli.flags import Flags
from batchgen.cli.notices import Notices
from batchgen.cli.session import say
from batchgen.domain.errors import (
    BatchgenError,
    Exit,
    ManifestError,
    OutputError,
    StoreError,
    UsageError,
)
from batchgen.domain.telling import Emit
from batchgen.metrics import Metrics
from batchgen.runner.clocks import new_id, wall_ms
from batchgen.runner.limits import Reason
from batchgen.store import sessions
from batchgen.store.database import Database
from batchgen.telling import Cleaner, Telling, check_events, open_events, open_log

STDOUT = "-"


class Told:
    """What one run tells others.

    Attributes:
        session_id: Of the session that it will be.
        emit: Takes events.
        log: The file of the session's log, None if there is none.
        metrics: Told how it goes too, None if nobody may ask.
    """

    def __init__(self, database: Database, flags: Flags) -> None:
        self._database = database
        self._flags = flags
        self._check()
        self._notices = Notices(database, flags)
        self.session_id = new_id("s", wall_ms())
        self._telling = Telling(self.session_id, cleaner=lambda: Cleaner(settings.tokens), say=say)
        self.emit: Emit = self._telling.emit
        self.log: Path | None = None
        self._has_begun = False
        self._notices.begin(self._not_notified)
        self._telling.listen(self._notices.heard)
        self.metrics = self._metrics()

    def _metrics(self) -> Metrics | None:
        if self._flags.metrics is None:
            return None
        metrics = Metrics(self._flags.metrics, version=__version__, clock_s=time.time)
        self._telling.listen(metrics.heard)
        return metrics

    def _check(self) -> None:
        events = self._flags.events
        if events == STDOUT and (self._flags.as_json or self._flags.output == STDOUT):
            raise UsageError(
                "--events - needs stdout for itself: leave --json and -o - out, or name a file"
            )
        if events is None or events == STDOUT:
            return
        target = Path(events).resolve()
        for path, what in (
            (self._database.path, "the job database"),
            (self._flags.output, "--output"),
        ):
            if path is not None and Path(path).resolve() == target:
                raise UsageError(f"{events} is {what}: name another file for --events")
        check_events(events)

    def _not_notified(self, service: str, why: str) -> None:
        self.emit("notification_failed", service=service, message=why)

    def begin(self) -> None:
        """Open the files: from here on something may be stored and spent.

        Raises:
            OutputError: If events cannot be written, or metrics not be served.
        """
        events = self._flags.events
        if events is not None:
            fd = _stdout() if events == STDOUT else open_events(events)
            self._telling.write_events(fd, "stdout" if events == STDOUT else events)
        if not self._flags.no_log:
            self._open_log()
        if self.metrics is not None:
            self.metrics.serve()
            if not self._flags.quiet:
                say(f"metrics: {self.metrics.url}/metrics and /health")
        self._has_begun = True

    def works_on(self, batch_ids: Sequence[int] | None) -> None:
        """Note which batches are of interest; None is all of them."""
        self._notices.batch_ids = batch_ids

    def _open_log(self) -> None:
        folder = settings.log_folder(self._database.path)
        if folder is None:
            say("warning: no folder for the log of the session: set HOME or XDG_STATE_HOME")
            return
        try:
            self.log, fd = open_log(folder, self.session_id)
        except OSError as error:
            say(
                f"warning: {folder}: the log of the session cannot be written ({error.strerror}); "
                "the work goes on"
            )
            return
        self._telling.write_log(fd, str(self.log))
        self._notices.log = self.log.resolve()

    def ended(
        self,
        reasons: Sequence[Reason],
        *,
        counts: dict[str, int],
        submitted: int,
        has_worked: bool,
        spent_micros: int,
        spent_is_estimate: bool,
        reserved_micros: int,
    ) -> None:
        """Tell how the session ended, last of all.

        Args:
            reasons: Of `ending.judge`.
            counts: How many jobs of the scope are in which state.
            submitted: How many this session has paid for.
            has_worked: Whether it paid for or finished anything.
            spent_micros: By the batches of the run over their lives.
            spent_is_estimate: Whether some of that was not stated by the service.
            reserved_micros: For requests that are open.
        """
        codes = [reason.exit_code for reason in reasons]
        if has_worked or codes[0] is not Exit.SUCCESS:  # cron would tell every half hour else
            self._notices.ended(codes, [reason.message for reason in reasons])
        self._notices.close()
        self.emit(
            "session_ended",
            exit_code=int(codes[0]),
            reasons=[reason.message for reason in reasons],
            counts=counts,
            submitted=submitted,
            spent_usd=usd_number(spent_micros),
            spent_is_estimate=spent_is_estimate,
            reserved_usd=usd_number(reserved_micros),
        )
        self._conclude(codes[0], [reason.message for reason in reasons])
        self._name_log(codes[0])

    def _conclude(self, code: Exit, reasons: Sequence[str]) -> None:
        """Store how the run ended: its session ended before all of that was known."""
        try:
            with self._database.transaction() as tx:
                sessions.conclude(tx, self.session_id, exit_code=int(code), reasons=reasons)
        except StoreError as error:
            say(f"warning: how the run ended is not in the job database: {error}")

    def failed(self, error: BaseException) -> None:
        """Tell that the run ended with an error."""
        code = _code_of(error)
        if self._has_begun or not is_terminal():  # else whoever typed it sees it
            self._notices.ended([code], [_said(error)])
            self._notices.close()
        if self._has_begun:
            self._telling.record_error(error)
            self.emit(
                "session_ended",
                exit_code=int(code),
                reasons=[_said(error)],
                counts=None,
                submitted=None,
                spent_usd=None,
                spent_is_estimate=None,
                reserved_usd=None,
            )
            self._name_log(code)

    def _name_log(self, code: Exit) -> None:
        if self.log is not None and code is not Exit.SUCCESS:
            say(f"log: {self.log}")

    def close(self) -> None:
        """Write what is left."""
        self._notices.close()
        self._telling.close()
        if self.metrics is not None:
            self.metrics.close()


@contextmanager
def telling(database: Database, flags: Flags) -> Iterator[Told]:
    """Check who is to be told, before anything is asked or spent; tell what becomes of the run.

    Raises:
        UsageError: If nobody could be told like that.
        OutputError: If events cannot be written.
    """
    told = Told(database, flags)
    try:
        yield told
    except BaseException as error:
        told.failed(error)
        raise
    finally:
        told.close()


def _stdout() -> int:
    # Not by way of `sys.stdout`: a reader that stands still would hold its lock until the end.
    try:
        return os.dup(sys.stdout.fileno())
    except (OSError, AttributeError) as error:
        raise OutputError("stdout is closed: name a file for --events") from error


def _code_of(error: BaseException) -> Exit:
    if isinstance(error, BatchgenError):
        return error.exit_code
    return Exit.SIGINT if isinstance(error, KeyboardInterrupt) else Exit.UNEXPECTED


def _said(error: BaseException) -> str:
    """Return what happened without the user's own texts: prompts are not for a messenger."""
    if isinstance(error, ManifestError) and error.faults:
        first = error.faults[0]
        count = f"{len(error.faults)} faults, the first" if len(error.faults) > 1 else "a fault"
        return f"{count} in {first.file}, line {first.line}: `batchgen validate` lists them"
    if isinstance(error, BatchgenError):
        return str(error)
    return f"unexpected: {type(error).__name__}; nothing paid for is lost"
