"""What completes a line: answers to a shell, by what words and options are called.

The shell asks through a variable of the environment and shows what is printed. So an answer
comes soon or not at all, says nothing of what is wrong, and never changes anything. What is
slow to import is imported by who needs it.
"""

import contextlib
import copy
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem, shell_complete

from batchgen.domain import where
from batchgen.domain.columns import RESULT_COLUMNS
from batchgen.domain.states import ErrorClass, JobState

ASKED = "_BATCHGEN_COMPLETE"
"""Set by the shell: what is to be answered."""

_LONGEST_S = 2.0
_MOST = 200  # candidates; nobody reads more
_BUSY_MS = 100
# What every shell takes as it is: without spaces, quotes and patterns.
_PLAIN = re.compile(r"[\w.@%+=:,/{}-]+")


def is_asked() -> bool:
    """Return whether a shell asks what completes a line."""
    return ASKED in os.environ


def answer(group: click.Group) -> NoReturn:
    """Print what completes a line, and leave."""
    code = 1
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            code = shell_complete(group, {}, "batchgen", ASKED, os.environ[ASKED])
            sys.stdout.flush()
        except Exception:  # noqa: BLE001 - a message would stand in the middle of what is typed
            code = 1
    sys.exit(code)


@contextlib.contextmanager
def _soon() -> Iterator[None]:
    """Give up if it takes too long: a server may be far away."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(1)


def attached(command: click.Command) -> click.Command:
    """Return a command whose words, and those of commands below it, complete by their names."""
    command = copy.copy(command)  # whoever runs it has its own
    if isinstance(command, click.Group):
        command.commands = {name: attached(below) for name, below in command.commands.items()}
        return command
    command.params = [copy.copy(param) for param in command.params]
    for param in command.params:
        candidates = _CANDIDATES.get(str(param.name))
        # Nothing is done with what is typed, so a type of its own is not missed.
        is_text = isinstance(param.type, click.types.StringParamType) or param.name == "columns"
        if candidates is not None and is_text:
            param.type = _Completed(candidates)
    return command


Candidates = Callable[[click.Context, str], Iterable[CompletionItem[str]]]


class _Completed(click.types.StringParamType):
    """A text that a shell can complete."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        """Return what begins with what is typed."""
        return [
            item
            for item in self._candidates(ctx, incomplete)
            if item.type != "plain"
            or (item.value.startswith(incomplete) and _PLAIN.fullmatch(item.value))
        ]


@contextlib.contextmanager
def _job_database(ctx: click.Context) -> Iterator[Any]:
    """Open the job database that is meant for reading; None if that is not possible as it is."""
    from batchgen.settings import database_url
    from batchgen.store import upgrade
    from batchgen.store.database import Database
    from batchgen.store.revision import REVISION

    database = Database(database_url(ctx.params.get("db")), busy_timeout_ms=_BUSY_MS)
    with contextlib.closing(database), _soon():
        if upgrade.revision_of(database) != REVISION:  # older ones are upgraded by who works
            yield None
            return
        with database.reading() as tx:
            yield tx


def _jobs(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem[str]]:
    from batchgen.store import candidates

    with _job_database(ctx) as tx:
        if tx is None:
            return
        batches = candidates.batches(tx)
        name, slash, said = incomplete.rpartition("/")
        chosen = [batch_id for batch, batch_id in batches.items() if not slash or batch == name]
        found = candidates.jobs(tx, said, batch_ids=chosen, most=_MOST)
        yield from _labels(found[:_MOST], in_batch=bool(slash) or len(batches) > 1)


def _doubtful(ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem[str]]:
    from batchgen.store import candidates

    with _job_database(ctx) as tx:
        if tx is not None:
            found = candidates.in_doubt(tx, most=_MOST)
            yield from _labels(found, in_batch=False)
            yield from _labels(found, in_batch=True)


def _labels(found: Iterable[Any], *, in_batch: bool) -> Iterator[CompletionItem[str]]:
    for one in found:
        label = f"{one.batch}/{one.label}" if in_batch else one.label
        yield CompletionItem(label, help=str(one.state))


def _batches(ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem[str]]:
    from batchgen.store import candidates

    with _job_database(ctx) as tx:
        for name in candidates.batches(tx) if tx is not None else ():
            yield CompletionItem(name)


def _accounts(ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem[str]]:
    from batchgen.store import accounts

    with _job_database(ctx) as tx:
        for one in accounts.every(tx) if tx is not None else ():
            yield CompletionItem(one.name)


def _models(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem[str]]:
    from batchgen.library.known_models import known_models

    return (CompletionItem(name) for name in known_models())


def _where(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem[str]]:
    # A shell breaks the word at each space, so only the last test is completed.
    head = re.match(r".*[\s(]", incomplete, re.DOTALL)
    start = head.group() if head else ""
    for word in (f"state={state}" for state in JobState):
        yield CompletionItem(start + word)
    for kind in ErrorClass:
        yield CompletionItem(f"{start}class={kind}")
    for name in (*where.FIELDS, *_columns_of(ctx)):
        yield CompletionItem(start + name)


def _column_list(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem[str]]:
    done, comma, _ = incomplete.rpartition(",")
    for name in dict.fromkeys((*_columns_of(ctx), *where.FIELDS, *RESULT_COLUMNS)):
        yield CompletionItem(f"{done}{comma}{name}")


def _columns_of(ctx: click.Context) -> list[str]:
    from batchgen.store import reads

    with _job_database(ctx) as tx:
        return [] if tx is None else reads.names(tx)[0]


def _words(*words: str) -> Candidates:
    return lambda _ctx, _incomplete: map(CompletionItem, words)


def _places(kind: str) -> Candidates:
    return lambda _ctx, incomplete: [CompletionItem(incomplete, type=kind)]


def _commands(ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem[str]]:
    root = ctx.find_root().command
    names = root.list_commands(ctx) if isinstance(root, click.Group) else ()
    return (CompletionItem(name) for name in names)


_CANDIDATES: dict[str, Candidates] = {
    "job": _jobs,
    "jobs": _jobs,
    "words": _doubtful,
    "batch": _batches,
    "account": _accounts,
    "model": _models,
    "model_id": _models,
    "ids": _models,
    "where": _where,
    "columns": _column_list,
    "shown": _column_list,
    "sort": _column_list,
    "halt": _words("streak=", "moderated=", "soon,fail=", "now,fail=", "never"),
    "commands": _commands,
    "manifests": _places("file"),
    "file": _places("file"),
    "files": _places("file"),
    "output": _places("file"),
    "events": _places("file"),
    "db": _places("file"),
    "output_dir": _places("dir"),
}
"""What completes the words and options of every command, by the name of the parameter."""
