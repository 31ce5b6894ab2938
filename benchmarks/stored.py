"""Job databases of any size: rows that batchgen added, and a past that SQL gives them."""

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from measuring import PROGRAM, Wrong, clean_environment, timed, write_large_manifest

from batchgen.store.payloads import packed_for_file

# As the stand-in service answers; its ids are as long as real ones.
_FINISH = """
PRAGMA synchronous = OFF;
PRAGMA temp_store = MEMORY;
BEGIN;
CREATE TEMP TABLE past AS
  SELECT id, printf('a1%023x', id) AS attempt_id, printf('%08x-aaaa-4bbb-8ccc-%012x', id, id) AS r
  FROM jobs WHERE id <= {finished};
INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, model, inputs,
  input_hash, settings, state, request_id, est_micros, cost_micros, charged_micros, intent_ms,
  accepted_ms, started_ms, closed_ms, run_ms, submit_raw, result_raw)
SELECT p.attempt_id, j.id, 1, 1, b.account_id, j.batch_id, 'w1', j.model, j.inputs, j.input_hash,
  j.settings, 'succeeded', p.r, 500000, 500000, 500000, 1796000000000 + j.id,
  1796000000400 + j.id, 1796000003000 + j.id, 1796000063000 + j.id, 60000 + j.id % 9000,
  packed('{{"request_id":"' || p.r ||
  '","status_url":"https://api.example.com/v1/requests/' || p.r ||
  '/status","result_url":"https://api.example.com/v1/requests/' || p.r || '/result"}}'),
  packed('{{"request_id":"' || p.r || '","status":"succeeded","model_id":"' || j.model ||
  '","created_at":"2026-11-30T01:05:33.999+00:00","finished_at":"2026-11-30T01:06:35.841+00:00",' ||
  '"output":{{"video":"https://files.example.com/' || p.r || '.mp4"}},"cost":0.5}}')
FROM past p JOIN jobs j ON j.id = p.id JOIN batches b ON b.id = j.batch_id;
UPDATE jobs SET state = 'succeeded', epoch = 1, attempt_id = p.attempt_id,
  urls = '["https://files.example.com/' || p.r || '.mp4"]',
  files = '[{{"path": "' || jobs.name || '", "url": "https://files.example.com/' || p.r ||
    '.mp4", "sha256": "' || jobs.input_hash || '", "size_bytes": 3514880}}]',
  finished_ms = 1796000070000 + jobs.id, updated_ms = 1796000070000 + jobs.id
  FROM past p WHERE p.id = jobs.id;
DELETE FROM counters;
INSERT INTO counters (batch_id, state, jobs)
  SELECT batch_id, state, count(*) FROM jobs GROUP BY batch_id, state;
COMMIT;
"""


def build(folder: Path, rows: int, *, finished: int) -> Path:
    """Make `jobs.db` in a folder: so many jobs, of which the first ones have succeeded.

    Raises:
        Wrong: If it does not hold them.
    """
    path = folder / "jobs.db"
    write_large_manifest(folder / "large.csv", rows)
    timed(
        [*PROGRAM, "add", "large.csv", "--db", "jobs.db", "--max-expand", str(rows)],
        folder=folder,
        environment=clean_environment(),
    )
    if finished:
        # In a process of its own: the memory of whoever starts a program counts as that program's.
        timed([sys.executable, __file__, path, str(finished)])
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = database.execute(
            "SELECT count(*), coalesce(sum(state = 'succeeded'), 0) FROM jobs"
        ).fetchone()
    if found != (rows, finished):
        raise Wrong(f"{found} jobs are stored and have succeeded, not {(rows, finished)}")
    (folder / "large.csv").unlink()
    return path


def _finish(path: str, finished: str) -> None:
    """Give the first jobs a past."""
    with closing(sqlite3.connect(path)) as database:
        database.create_function("packed", 1, packed_for_file, deterministic=True)
        database.executescript(_FINISH.format(finished=int(finished)))


@contextmanager
def database(rows: int, *, finished: int, kept: Path | None = None) -> Iterator[Path]:
    """Give a job database of so many jobs: that of a folder, made if need be, or a passing one."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        path = kept / "jobs.db"
        yield path if path.exists() else build(kept, rows, finished=finished)
        return
    folder = Path(tempfile.mkdtemp(prefix="batchgen-stored-"))
    try:
        yield build(folder, rows, finished=finished)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    _finish(*sys.argv[1:])
