"""A process that buys through the real store and says what is durable, until it is killed.

Arguments: the folder of the job database, and what `PRAGMA synchronous` shall be.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

from store.stored_jobs import Store, accepted, generated

from batchgen.store import jobs
from batchgen.store.transactions import FileChanger
from batchgen.store.writer import Writer

_JOBS = 4000
_AT_ONCE = 6


def say(what: str, name: str) -> None:
    sys.stdout.write(f"{what} {name}\n")
    sys.stdout.flush()


async def buy(store: Store, writer: Writer) -> None:
    while True:
        claim = await writer.do(jobs.claim, store.request(2))
        for job in claim.jobs:
            say("intent", job.attempt_id)
        for job in claim.jobs:
            fact = accepted(job)
            await writer.do(jobs.record_accepted, fact)
            say("id", fact.request_id)
        for job in claim.jobs[:1]:
            await writer.do(jobs.record_generated, generated(job))


async def main(store: Store) -> None:
    writer = Writer(store.database, on_stuck=lambda said: say("stuck", said))
    writer.start()
    await asyncio.gather(*(buy(store, writer) for _ in range(_AT_ONCE)))


place = Store(Path(sys.argv[1]), cap=_JOBS)
place.fill(_JOBS)
place.close()  # carelessness begins with a database that is whole on the disk
if sys.argv[2] != "as it is":
    # After the product's own pragmas; the connection is the one that the store thread uses.
    changer = cast(FileChanger, place.database.connect_writer())
    changer.file.execute(f"PRAGMA synchronous = {sys.argv[2]}")
asyncio.run(main(place))
