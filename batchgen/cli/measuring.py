"""What a session tells `--metrics`, once a second."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from batchgen.cli.common import usd_number
from batchgen.cli.numbers import Meter, Numbers
from batchgen.metrics import Metrics, Moment
from batchgen.runner.view import View

_EVERY_S = 1.0


@contextlib.asynccontextmanager
async def measured(meter: Meter, view: Callable[[], View], metrics: Metrics) -> AsyncIterator[None]:
    """Tell meanwhile how the session stands, and once more at its end."""

    def tell() -> None:
        metrics.stands(moment_of(meter.read(), view()))

    async def telling() -> None:
        while True:
            tell()
            await asyncio.sleep(_EVERY_S)

    task = asyncio.create_task(telling())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        tell()


def moment_of(numbers: Numbers, view: View) -> Moment:
    """Return how a session stands, as it is measured."""
    rest = numbers.rest
    is_paused = view.is_account_paused or view.lacks_money or bool(view.reasons)
    return Moment(
        jobs={
            "waiting": numbers.waiting,
            "in_flight": numbers.in_flight,
            "in_flight_elsewhere": numbers.elsewhere,
            "to_download": numbers.downloading + numbers.to_download,
            "succeeded": rest.succeeded,
            "failed": rest.failed,
            "cancelled": rest.cancelled,
            "in_doubt": rest.in_doubt,
        },
        gauges={
            "cap": numbers.cap,
            "spent_dollars": usd_number(numbers.spent_micros),
            "session_spent_dollars": usd_number(numbers.session_micros),
            "reserved_dollars": usd_number(numbers.reserved_micros),
            "budget_dollars": usd_number(numbers.budget_micros),
            "download_bytes": numbers.received_bytes,
            "outage_seconds": view.outage_s,
            "throttled_seconds": view.throttled_s,
            "paused": float(is_paused),
            "over_budget": float(view.is_over_budget),
            "stuck": float(bool(view.stuck)),
        },
        in_the_way=numbers.hurdles,
    )
