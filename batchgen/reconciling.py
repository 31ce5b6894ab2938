"""Jobs in doubt: what is known of them, and whether a request of the service is one of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from batchgen.domain.errors import ProviderError, RequestLost, UsageError
from batchgen.domain.identity import canonical
from batchgen.domain.retry import doubt_slot_ms
from batchgen.domain.states import JobState
from batchgen.providers.interface import Look, Provider
from batchgen.store import after_restore, by_hand, reads, step_back
from batchgen.store.after_restore import Repair
from batchgen.store.database import Database
from batchgen.store.journal import Contents
from batchgen.store.reads import JobRow
from batchgen.store.transactions import Transaction

EARLIER = timedelta(seconds=60)
"""How much earlier than the intent a request may seem to be: clocks differ."""

LATER = timedelta(minutes=10)
"""How much later than the intent a request may have been made."""

_TOO_OLD = (
    "the job database is older than the journal: what was bought before the journal begins may be "
    "missing too. Restore a newer copy, or pass older journals with --journal"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Adoption:
    """A person says that a job in doubt is a request of the service.

    Attributes:
        row: The job.
        request_id: The service's id.
    """

    row: JobRow
    request_id: str


def parse_adoption(said: str) -> tuple[str, str]:
    """Return job and request id of `JOB=REQUEST_ID`.

    Raises:
        UsageError: If it is no such pair.
    """
    job, equals, request_id = said.rpartition("=")
    if not equals or not job:
        raise UsageError(f"{said!r}: say JOB=REQUEST_ID, as harbor-2=0f3c…")
    if not _REQUEST_ID.fullmatch(request_id):
        raise UsageError(
            f"{said!r}: {request_id!r} cannot be a request id: letters, digits, - and _ only"
        )
    return job, request_id


def in_doubt(tx: Transaction, job_ids: Sequence[int]) -> list[JobRow]:
    """Return jobs that must be in doubt.

    Raises:
        UsageError: If one is not.
    """
    rows = [row for row in (reads.job_row(tx, job_id) for job_id in job_ids) if row is not None]
    others = [f"{row.batch}/{row.label} is {row.state}" for row in rows if not _is_doubt(row)]
    if others:
        raise UsageError(f"not in doubt: {', '.join(others)}. Nothing was changed")
    return rows


def _is_doubt(row: JobRow) -> bool:
    return row.state is JobState.IN_DOUBT


def check_distinct(adoptions: Sequence[Adoption]) -> None:
    """Refuse to give two jobs one request, or one job two.

    Raises:
        UsageError: If a job or a request is named twice.
    """
    for names in (
        [adoption.row.key for adoption in adoptions],
        [adoption.request_id for adoption in adoptions],
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"{', '.join(twice)} is named twice. Nothing was changed")


async def reservations(provider: Provider, adoption: Adoption) -> list[str]:
    """Return what speaks against an adoption, or could not be checked; empty if all is well.

    Raises:
        UsageError: If the service does not know the request: it cannot be adopted.
    """
    row = adoption.row
    try:
        look = await provider.poll(row.model, adoption.request_id)
    except RequestLost as error:
        raise UsageError(
            f"the service knows no request {adoption.request_id}: nothing was changed"
        ) from error
    except ProviderError as error:
        return [f"it could not be checked: {error}"]
    return [said for said in (_about_time(row, look), _about_inputs(row, look)) if said]


def _about_time(row: JobRow, look: Look) -> str:
    if look.created_at is None or row.intent_ms is None:
        return "the service does not say when the request was made"
    sent_at = datetime.fromtimestamp(row.intent_ms / 1000, UTC)
    if sent_at - EARLIER <= look.created_at <= sent_at + LATER:
        return ""
    return (
        f"the request was made at {look.created_at:%Y-%m-%d %H:%M:%S} UTC, but the job's was sent "
        f"at {sent_at:%Y-%m-%d %H:%M:%S} UTC"
    )


def _about_inputs(row: JobRow, look: Look) -> str:
    echoed = look.echoed_inputs
    if not echoed:
        return ""
    different = [
        name for name in row.inputs if name in echoed and not _same(row.inputs[name], echoed[name])
    ]
    return f"the request has other inputs: {', '.join(different)}" if different else ""


def _same(sent: Any, echoed: Any) -> bool:
    # The signature of a URL and the type of a number may change on the way, their meaning not.
    one, other = canonical(sent), canonical(echoed)
    return bool(one == other or str(one) == str(other))


def adopt(tx: Transaction, adoptions: Sequence[Adoption], *, now_ms: int) -> None:
    """Let jobs in doubt go on as requests of the service: all, or none.

    Raises:
        UsageError: If a request belongs to a job already, or a job has been decided meanwhile.
    """
    for adoption in adoptions:
        _must(
            adoption.row,
            by_hand.adopt(
                tx,
                adoption.row.id,
                adoption.request_id,
                now_ms=now_ms,
                attempt_id=adoption.row.attempt_id,
            ),
        )


def resubmit(tx: Transaction, rows: Sequence[JobRow], *, now_ms: int) -> None:
    """Give up doubtful requests and let their jobs be paid for again: all, or none.

    Raises:
        UsageError: If a job has been decided meanwhile.
    """
    for row in rows:
        _must(row, by_hand.resubmit(tx, row.id, now_ms=now_ms, attempt_id=row.attempt_id))


def write_off(tx: Transaction, rows: Sequence[JobRow], *, now_ms: int) -> None:
    """Give up doubtful requests and their jobs: all, or none.

    Raises:
        UsageError: If a job has been decided meanwhile.
    """
    for row in rows:
        _must(row, by_hand.write_off(tx, row.id, now_ms=now_ms, attempt_id=row.attempt_id))


def _must(row: JobRow, outcome: by_hand.Outcome) -> None:
    if outcome.done:
        return
    now = f"is {outcome.was} by now, not in doubt"
    if outcome.was is JobState.IN_DOUBT:
        now = "has been bought again meanwhile, and it is that request which is in doubt now"
    raise UsageError(f"{row.batch}/{row.label} {now}. Nothing was changed")


def repair(
    database: Database, journals: Sequence[Contents], *, write_off: bool, now_ms: int
) -> tuple[Repair, list[str]]:
    """Put back what a restored job database forgot, and let everybody submit again.

    Args:
        database: Opened and current.
        journals: What was written down outside of it.
        write_off: Give up what cannot be put back.
        now_ms: The time.

    Returns:
        What was put back, and what still forbids to submit; nothing forbids if it is empty.
    """
    entries = after_restore.merged([journal.entries for journal in journals])
    with database.transaction() as tx:
        begins = [journal.after for journal in journals if journal.after is not None]
        unreached = [one for one in begins if not after_restore.is_reached(tx, one, entries)]
        if unreached and not write_off:
            return Repair(), [_TOO_OLD]
        for one in unreached:
            after_restore.write_off(tx, one, now_ms=now_ms)
        done = after_restore.repair(
            tx, entries, write_off=write_off, slot_ms=doubt_slot_ms(0), now_ms=now_ms
        )
        left = [f"{len(done.unplaced)} purchases have no job"] if done.unplaced else []
        left += [
            f"{host} bought what no journal here tells of: repeat this there, or pass its journal "
            "with --journal"
            for host in ([] if write_off else after_restore.unaccounted(tx))
        ]
        if not left:
            step_back.clear(tx)
    return done, left
