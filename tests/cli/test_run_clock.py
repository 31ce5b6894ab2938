"""The wall clock is set while a run works."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from power.disk import compiled
from runs import Place, rows_of

from batchgen.providers.simulator import Fault, Kind

HOUR_S = 3600


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_clock_that_is_set_moves_no_deadline(place: Place, step_s: int) -> None:
    library = compiled(place.folder, Path(__file__).with_name("clock.c"))
    if library is None:
        pytest.skip("there is no C compiler")
    clock = place.folder / "clock"
    clock.write_bytes(struct.pack("@l", 0))
    place.write(rows_of(10))
    faults = (
        Fault(Kind.THROTTLE, nth=(9, 10), seconds=1),  # a freeze that the step falls in
        Fault(Kind.LOOK_404, nth=(1, 2), prompt="scene 001"),  # lost before it, found after
        Fault(Kind.RESULT_LATE, prompt="scene 002", code="completed", count=2),
        Fault(Kind.FILE_404, nth=(1,), prompt="scene 003"),
    )
    settings = place.service.settings
    place.service.settings = replace(
        settings, queue_s=(0.5, 0.5), run_s=(0.5, 0.5), times_stated=False, faults=faults
    )
    env: dict[str, str | None] = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(clock)}
    run = place.start_run("jobs.csv", "-j", "10", "--job-timeout", "20", "-o", "out.csv", env=env)
    place.service.wait_until(lambda seen: seen.refused == 2 and seen.result_looks >= 10)

    # In place: the program has mapped the file.
    with clock.open("r+b") as file:
        file.write(struct.pack("@l", step_s))
    done = run.wait()

    assert done.code == 0, done.err
    rows = place.export()
    assert {row["result_state"] for row in rows} == {"succeeded"}
    for row in rows:
        for name in ("result_queue_s", "result_run_s"):
            assert not row[name] or 0 <= float(row[name]) < 60
    fetches = {entry.inputs["promptText"]: entry.fetches for entry in place.service.ledger.entries}
    assert sum(fetches.values()) == 11
    assert place.service.counters.accepted == 10
    place.check_books()
