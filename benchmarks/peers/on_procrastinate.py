"""The same jobs as tasks of procrastinate, on PostgreSQL, with httpx on aiohttp.

python benchmarks/peers/on_procrastinate.py BASE JOBS CAP DATABASE-URL
"""

import asyncio
import sys

import httpx
from httpx_aiohttp import AiohttpTransport
from orders import TOKEN, Wrong, body, is_over, result_url, submit_url
from procrastinate import App, PsycopgConnector


async def main(base: str, jobs: int, cap: int, url: str) -> None:
    """Queue every job, have them done, and leave.

    Raises:
        Wrong: If not all succeed.
    """
    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=20))
    limits = httpx.Limits(max_connections=max(100, cap), max_keepalive_connections=20)
    client = httpx.AsyncClient(
        transport=AiohttpTransport(limits=limits),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=100,
    )
    done = 0

    async def make(number: int) -> str:
        nonlocal done
        sent = await client.post(submit_url(base), json=body(number))
        request_id = str(sent.raise_for_status().json()["request_id"])
        while not is_over((await client.get(result_url(base, request_id))).json()):
            pass
        done += 1
        return request_id

    task = app.task(name="make")(make)
    async with app.open_async(), client:
        await app.schema_manager.apply_schema_async()
        await task.batch_defer_async(*({"number": number} for number in range(jobs)))
        await app.run_worker_async(concurrency=cap, wait=False, install_signal_handlers=False)
    if done != jobs:
        raise Wrong(f"{done} jobs were done, not {jobs}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
