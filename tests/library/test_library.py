"""`import batchgen`: the same promises for programs as for people."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, write
from runs import Place

import batchgen
from batchgen.providers.simulator import Fault, Handle, Kind, Settings
from batchgen.store.database import Database
from batchgen.store.statements import text

JOB = "jobs/a"
KILLED = -9


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    with service(monkeypatch, Settings()) as handle:
        yield handle


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest) -> str:
    return "jobs.db" if request.param == "file" else str(request.getfixturevalue("postgres_url"))


def fail(handle: Handle, *faults: Fault) -> None:
    handle.settings = replace(handle.settings, faults=faults)


def paid(handle: Handle) -> int:
    return len(handle.ledger.entries)


def until_over(db: batchgen.JobDatabase, attempt: str) -> batchgen.Standing:
    while not (standing := db.poll_one(attempt)).is_over:
        pass
    return standing


def test_importing_it_loads_nothing_until_it_is_used() -> None:
    program = (
        "import sys, batchgen\n"
        "assert not [name for name in sys.modules if name.startswith('batchgen.')]\n"
        "for name in batchgen.__all__: assert getattr(batchgen, name) is not None, name\n"
        "assert 'alembic' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_manifests_are_added_run_and_read(bought: Handle, url: str) -> None:
    fail(bought, Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"))
    seen: list[batchgen.Event] = []
    with batchgen.open(url) as db:
        added = db.add(write("jobs.csv", rows("a", "b")))
        assert (added.batch, added.new, added.to_pay) == ("jobs", 2, 2)
        assert added.estimate_usd
        more = [{"id": "c", "prompt": "scene c", "image": rows("c")[0]["image"], "client": "acme"}]
        broken = {**rows("broken")[0], "client": ""}
        assert db.add([*more, broken], batch="rows").new == 2
        assert db.add(iter([*more, broken]), batch="rows").kept == 2

        ended = db.run(jobs=3, on_event=seen.append)

        assert ended.counts == {batchgen.JobState.SUCCEEDED: 3, batchgen.JobState.FAILED: 1}
        assert (ended.submitted, ended.reasons, ended.is_complete) == (4, (), False)
        assert {"submitted", "generated", "downloaded", "failed"} <= {one.kind for one in seen}
        found = {one.id: one for one in db.results()}
        assert list(found) == ["a", "b", "c", "broken"]
        assert found["c"].columns["client"] == "acme"
        assert found["broken"].error_class == "moderation"
        assert found["a"].clips[0].path == Path("clips/jobs/a.mp4").resolve()
        assert found["a"].clips[0].path.stat().st_size == found["a"].clips[0].size_bytes
        assert found["a"].cost_usd
        assert [one.id for one in db.results(batch="rows", states=["failed"])] == ["broken"]
        assert db.result("rows/c") == found["c"]
        assert db.run(limit=1).counts == {}
    assert paid(bought) == 4
    assert ok("db", "check", "--db", url).out.endswith("money\n")
    assert ok("ls", "--json", "--db", url).said["jobs"][0]["state"] == "succeeded"


def test_one_job_goes_step_by_step_and_each_step_again(bought: Handle, url: str) -> None:
    bought.settings = replace(bought.settings, run_s=(0.2, 0.2))
    with batchgen.open(url) as db:
        db.add(write("jobs.csv", rows("a", "b")))

        first = db.submit_one(JOB)
        again = db.submit_one(first.job)

        assert (first.is_new, again.is_new) == (True, False)
        assert replace(again, is_new=True) == first
        assert paid(bought) == 1
        with pytest.raises(batchgen.NotNow):
            db.fetch_one(first.attempt)
        standing = until_over(db, first.attempt)
        assert (standing.state, standing.has_clip) == (batchgen.JobState.DOWNLOADING, True)
        clips = db.fetch_one(first.attempt)
        assert clips[0].path.stat().st_size == clips[0].size_bytes
        assert db.fetch_one(first.attempt) == clips
        assert db.poll_one(first.attempt).state == "succeeded"
        assert db.submit_one(JOB).request_id == first.request_id
        clips[0].path.unlink()
        with pytest.raises(batchgen.OutputError, match="download --refresh"):
            db.fetch_one(first.attempt)
    assert paid(bought) == 1
    # Nothing is held between steps, so a run goes on at once with what is left.
    assert call("run", "-y", "--db", url, "--poll-interval", "0").code == 0
    assert paid(bought) == 2
    assert "money" in ok("db", "check", "--db", url).out


def test_another_handle_takes_the_next_step(bought: Handle, url: str) -> None:
    with batchgen.open(url) as one, batchgen.open(url) as other:
        one.add(write("jobs.csv", rows("a")))

        submitted = one.submit_one(JOB)

        assert other.submit_one(JOB).attempt == submitted.attempt
        until_over(other, submitted.attempt)
        assert one.fetch_one(submitted.attempt) == other.fetch_one(submitted.attempt)
    assert paid(bought) == 1


def test_many_threads_submit_the_same_job_once(bought: Handle, url: str) -> None:
    def submit(_: int) -> str | None:
        try:
            return handles[_ % 2].submit_one(JOB).request_id
        except batchgen.NotNow:
            return None

    with ExitStack() as stack:
        handles = [stack.enter_context(batchgen.open(url)) for _ in range(2)]
        handles[0].add(write("jobs.csv", rows("a")))
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(submit, range(16))) - {None}
    assert len(found) == 1
    assert paid(bought) == 1


def test_awaiting_is_the_same(bought: Handle) -> None:
    async def story(db: batchgen.JobDatabase) -> None:
        submitted = await asyncio.gather(*(db.submit_one_async(f"jobs/{name}") for name in "abc"))
        for one in submitted:
            while not (await db.poll_one_async(one.attempt)).is_over:
                pass
        clips = await asyncio.gather(*(db.fetch_one_async(one.attempt) for one in submitted))
        assert len({clip[0].path for clip in clips}) == 3
        assert (await db.run_async()).counts == {}

    with batchgen.open("jobs.db") as db:
        db.add(write("jobs.csv", rows("a", "b", "c")))
        asyncio.run(story(db))
    assert paid(bought) == 3


# -- what goes wrong -----------------------------------------------------------------------------


def test_what_nobody_knows_is_never_sent_again(bought: Handle, url: str) -> None:
    fail(bought, Fault(Kind.DROP_AFTER, prompt="scene a"))
    with batchgen.open(url) as db:
        db.add(write("jobs.csv", rows("a")))
        for _ in range(2):
            with pytest.raises(batchgen.InDoubt, match="reconcile"):
                db.submit_one(JOB)
        fail(bought)
        with pytest.raises(batchgen.InDoubt) as told:
            db.submit_one(JOB)
        assert told.value.attempt_id == db.result(JOB).attempt
        assert paid(bought) == 1
        # A person decides; then it goes on.
        ok("reconcile", "--adopt", f"{JOB}={bought.ledger.entries[0].id}", "-y", "--db", url)
        submitted = db.submit_one(JOB)
        assert not submitted.is_new
        assert until_over(db, submitted.attempt).has_clip
    assert paid(bought) == 1


def test_a_refusal_and_a_failure_are_told_apart_from_what_passes(bought: Handle) -> None:
    fail(
        bought,
        Fault(Kind.INVALID, prompt="scene refused"),
        Fault(Kind.GENERATION, prompt="scene twice", code="INTERNAL"),
        Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
        Fault(Kind.THROTTLE, prompt="scene later", count=1),
    )
    with batchgen.open("jobs.db") as db:
        db.add(write("jobs.csv", rows("refused", "twice", "broken", "later")))

        with pytest.raises(batchgen.NoClip) as refused:
            db.submit_one("refused")
        assert (refused.value.state, refused.value.error_class) == ("failed", "invalid_input")

        first = db.submit_one("twice").attempt
        standing = until_over(db, first)
        assert (standing.state, standing.is_current) == (batchgen.JobState.PENDING, False)
        fail(bought, *[fault for fault in bought.settings.faults if fault.code != "INTERNAL"])
        second = db.submit_one("twice")
        assert second.is_new
        with pytest.raises(batchgen.NoClip):
            db.fetch_one(first)
        assert until_over(db, second.attempt).has_clip

        broken = db.submit_one("broken").attempt
        standing = until_over(db, broken)
        assert (standing.error_class, standing.has_clip) == ("moderation", False)
        with pytest.raises(batchgen.NoClip):
            db.submit_one("broken")

        with pytest.raises(batchgen.NotNow) as later:
            db.submit_one("later")
        assert later.value.retry_after_s > 0
    assert paid(bought) == 3


def test_cap_pause_and_budget_hold_for_steps_too(bought: Handle) -> None:
    bought.settings = replace(bought.settings, run_s=(60.0, 60.0))
    with batchgen.open("jobs.db") as db:
        added = db.add(write("jobs.csv", rows("a", "b", "c")))
        price = (added.estimate_usd or 0) / 3
        ok("set", "jobs", "1", "--db", "jobs.db")
        db.submit_one("a")
        with pytest.raises(batchgen.NotNow, match="cap"):
            db.submit_one("b")
        ok("set", "jobs", "9", "--db", "jobs.db")
        ok("pause", "--db", "jobs.db")
        with pytest.raises(batchgen.Halted, match="unpause"):
            db.submit_one("b")
        ok("unpause", "--db", "jobs.db")
        ok("set", "budget", f"{2.5 * price:.4f}", "--db", "jobs.db")
        db.submit_one("b")
        with pytest.raises(batchgen.Halted, match="budget") as told:
            db.submit_one("c")
        assert told.value.exit_code == 8
    assert paid(bought) == 2


def test_a_refused_token_halts_and_the_next_one_goes_on(
    bought: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(bought, Fault(Kind.UNAUTHORIZED, prompt="scene a"))
    with batchgen.open("jobs.db") as db:
        db.add(write("jobs.csv", rows("a")))
        for _ in range(2):
            with pytest.raises(batchgen.Halted, match="token"):
                db.submit_one(JOB)
        fail(bought)
        assert db.submit_one(JOB).is_new
    assert paid(bought) == 1


PROGRAM = """
import sys, batchgen
from batchgen import failpoints
failpoints.arm_from_environment()
db = batchgen.open(sys.argv[1])
attempt = db.submit_one("jobs/a").attempt
while not db.poll_one(attempt).is_over:
    pass
print(db.fetch_one(attempt)[0].sha256)
db.close()
"""


DEATHS = {
    "before-post": True,
    "after-send": True,
    "after-id-commit": False,
    "in-download": False,
    "before-last-commit": False,
}
ON_A_SERVER = ("after-send", "in-download")


@pytest.mark.parametrize(
    ("kind", "point"),
    [("file", point) for point in DEATHS] + [("server", point) for point in ON_A_SERVER],
)
def test_wherever_the_program_dies_the_next_goes_on(
    bought: Handle, tmp_path: Path, kind: str, point: str, request: pytest.FixtureRequest
) -> None:
    url = "jobs.db" if kind == "file" else str(request.getfixturevalue("postgres_url"))
    place = Place(tmp_path, bought, url=url)
    ok("add", write("jobs.csv", rows("a")), "--db", url)
    program = [sys.executable, "-c", PROGRAM, url]
    armed = {"BATCHGEN_FAILPOINT": f"{point}=kill"}
    assert place.start_program(program, env=armed).wait().code == KILLED
    if kind == "server":  # nobody can ask whether it lives: its lease says so
        assert "NotNow" in place.start_program(program).wait().err
        with closing(Database(url)) as database, database.transaction() as tx:
            tx.run(text("UPDATE workers SET expires_ms = 0"))

    done = place.start_program(program).wait()

    if DEATHS[point]:
        assert "InDoubt" in done.err
        assert paid(bought) == int(point != "before-post")
        return
    assert done.code == 0, done.err
    assert paid(bought) == 1
    assert len(done.out.strip()) == 64
    assert place.start_program(program).wait().out == done.out


def test_what_cannot_be_opened_is_told(bought: Handle) -> None:
    ok("add", write("jobs.csv", rows("a")), "--db", "old.db")
    ok("db", "copy", "old.db", "new.db")

    with pytest.raises(batchgen.StoreError, match=r"moved to new\.db"):
        batchgen.open("old.db")
    with pytest.raises(batchgen.StoreError):
        batchgen.open("no/such/folder/jobs.db")
    with batchgen.open("new.db") as db:
        with pytest.raises(batchgen.NoSuchJob):
            db.submit_one("nobody")
        with pytest.raises(batchgen.NoSuchJob):
            db.poll_one("a-nothing")
        with pytest.raises(batchgen.NoSuchBatch):
            next(db.results(batch="nobody"))
        with pytest.raises(batchgen.ManifestError):
            db.add([{"id": "x", "prompt": object()}], batch="more")
        with pytest.raises(batchgen.ManifestError, match=r"^rows:1: image: "):
            db.add([{"id": "x", "prompt": "a", "image": "nowhere"}], batch="more")
        with pytest.raises(batchgen.UsageError, match="batch="):
            db.add([{"id": "x"}])


def test_a_program_that_closes_nothing_leaves_in_good_order(bought: Handle) -> None:
    place = Place(Path.cwd(), bought)
    ok("add", write("jobs.csv", rows("a")))
    program = "import batchgen; db = batchgen.open('batchgen.db'); db.submit_one('a')"

    done = place.start_program([sys.executable, "-c", program]).wait()

    assert (done.code, done.err) == (0, "")
    assert ok("workers", "--json").said["workers"] == []
    assert not list(Path.cwd().glob("batchgen.db-*rescue*"))


def test_another_account_s_job_is_told_so(bought: Handle) -> None:
    ok("add", write("jobs.csv", rows("a")), "--account", "team")
    with (
        batchgen.open("batchgen.db") as db,
        pytest.raises(batchgen.UsageError, match="account='team'"),
    ):
        db.submit_one("a")
    with batchgen.open("batchgen.db", account="team") as db:
        assert db.submit_one("a").is_new


def test_a_closed_handle_holds_nothing_and_opens_itself_again(bought: Handle) -> None:
    db = batchgen.open("jobs.db")
    db.add(write("jobs.csv", rows("a")))
    submitted = db.submit_one(JOB)
    db.close()

    with closing(Database("jobs.db")) as database, database.reading() as tx:
        workers = {row.state for row in tx.rows(text("SELECT state FROM workers"))}
    assert workers == {"dead"}
    assert until_over(db, submitted.attempt).has_clip
    db.close()
