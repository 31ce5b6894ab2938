"""Take over from workers that have died, or live and do nothing.

What they had sent and not recorded is in doubt; what they were polling or downloading is free
for adoption; the request ids that they could not record are taken in first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.domain.errors import UsageError
from batchgen.domain.telling import Emit, silent
from batchgen.failpoints import failpoint
from batchgen.runner import rescue
from batchgen.store import sharing, workers
from batchgen.store.backend import Backend
from batchgen.store.transactions import Transaction
from batchgen.store.writer import Writer

_SILENT_MS = 5 * 60_000  # then its paid jobs may go on elsewhere, although it lives


@dataclass
class Takeover:
    """One worker's care for what others leave behind.

    Attributes:
        backend: The job database.
        worker_id: Who takes over.
        doubt_slot_ms: How long a doubt holds its slot.
        now_ms: Epoch milliseconds.
        say: Tells the user something.
        emit: Told what was taken over.
    """

    backend: Backend
    worker_id: str
    doubt_slot_ms: Callable[[], int]
    now_ms: Callable[[], int]
    say: Callable[[str], None]
    emit: Emit = silent
    _kept_rescues: set[Path] = field(default_factory=set)  # told already

    async def from_others(self, writer: Writer) -> bool:
        """Take from the dead and the silent; return whether jobs are free for adoption now."""
        recorded = await self._rescued(writer)
        for worker in await writer.do(_traces, self.backend):
            # Whoever buried them died before it could clear up, or they died unknown.
            self.backend.forget(worker)
        silent = await self._silent(writer)
        dead = await self._dead(writer)
        return recorded or silent or dead

    async def _rescued(self, writer: Writer) -> bool:
        """Record the request ids that dead workers could not, before their jobs come in doubt."""
        recorded = False
        for path in await writer.do(_left_behind, self.backend):
            if path in self._kept_rescues:
                continue
            try:
                contents = rescue.read(path)
            except UsageError as error:
                if not path.exists():  # another worker has taken it in
                    continue
                self._kept_rescues.add(path)
                self.say(str(error))
                continue
            taken = await writer.do(_take_in, _Rescued(contents.pairs, self.now_ms()))
            if taken.recorded:
                recorded = True
                self.emit("took_over", what="recorded", jobs=len(taken.recorded))
                self.say(
                    f"{path}: {len(taken.recorded)} request id(s) that a worker could not record "
                    "before it died are recorded now: nothing of them is paid for again"
                )
            if said := rescue.trouble(path, contents, taken):
                self._kept_rescues.add(path)
                self.say(said)
            else:
                path.unlink(missing_ok=True)
        return recorded

    async def _silent(self, writer: Writer) -> bool:
        """Free the paid jobs of workers that live and do nothing, as one that was suspended."""
        if self.backend.is_remote:  # the lease says who lives
            return False
        freed = await writer.do(
            sharing.take_from_silent, sharing.Silence(self.worker_id, _SILENT_MS)
        )
        if freed:
            self.emit("took_over", what="adopted", jobs=freed)
            self.say(
                f"another worker has been silent for {_SILENT_MS // 60_000} min: {freed} of its "
                "paid job(s) go on here"
            )
        return bool(freed)

    async def _dead(self, writer: Writer) -> bool:
        buried = False
        for worker in await writer.do(_fallen, _Look(self.backend, self.worker_id)):
            failpoint("in-takeover")
            doubts = await writer.do(_bury, _Burial(worker, self.doubt_slot_ms(), self.now_ms()))
            failpoint("in-takeover")
            if doubts is None:
                continue
            self.backend.forget(worker)
            buried = True
            if doubts:
                self.emit("took_over", what="in_doubt", jobs=doubts)
                self.say(
                    f"{doubts} job(s) of a worker that died are in doubt: they may have been "
                    "paid for; `batchgen reconcile --list` shows them"
                )
        return buried


@dataclass(frozen=True)
class _Look:
    backend: Backend
    but: str


def _fallen(tx: Transaction, looks: Sequence[_Look]) -> list[list[str]]:
    return [workers.fallen(tx, look.backend, but=look.but) for look in looks]


@dataclass(frozen=True)
class _Burial:
    worker_id: str
    slot_ms: int
    now_ms: int


def _bury(tx: Transaction, burials: Sequence[_Burial]) -> list[int | None]:
    return [
        workers.bury(tx, burial.worker_id, slot_ms=burial.slot_ms, now_ms=burial.now_ms)
        for burial in burials
    ]


@dataclass(frozen=True)
class _Rescued:
    pairs: tuple[rescue.Pair, ...]
    now_ms: int


def _traces(tx: Transaction, backends: Sequence[Backend]) -> list[list[str]]:
    return [workers.not_living(tx, backend.traces()) for backend in backends]


def _left_behind(tx: Transaction, backends: Sequence[Backend]) -> list[list[Path]]:
    return [rescue.left_behind(tx, backend) for backend in backends]


def _take_in(tx: Transaction, files: Sequence[_Rescued]) -> list[rescue.Taken]:
    return [rescue.take_in(tx, file.pairs, now_ms=file.now_ms) for file in files]
