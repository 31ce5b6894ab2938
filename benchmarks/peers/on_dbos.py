"""The same jobs as workflows of DBOS, on SQLite: a step for the paid request, one for the result.

python benchmarks/peers/on_dbos.py BASE JOBS CAP FILE
"""

import asyncio
import sys

import httpx
from dbos import DBOS
from httpx_aiohttp import AiohttpTransport
from orders import TOKEN, body, is_over, result_url, submit_url


async def main(base: str, jobs: int, cap: int, path: str) -> None:
    """Start every job as a workflow, at most `cap` at a time, and await them all."""
    DBOS(
        config={
            "name": "peer",
            "system_database_url": f"sqlite:///{path}",
            "log_level": "ERROR",
            "enable_otlp": False,
        }
    )
    limits = httpx.Limits(max_connections=max(100, cap), max_keepalive_connections=20)
    client = httpx.AsyncClient(
        transport=AiohttpTransport(limits=limits),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=100,
    )

    async def submit(number: int) -> str:
        sent = await client.post(submit_url(base), json=body(number))
        return str(sent.raise_for_status().json()["request_id"])

    async def wait(request_id: str) -> None:
        while not is_over((await client.get(result_url(base, request_id))).json()):
            pass

    submit_step, wait_step = DBOS.step()(submit), DBOS.step()(wait)

    async def make(number: int) -> str:
        request_id: str = await submit_step(number)
        await wait_step(request_id)
        return request_id

    workflow = DBOS.workflow()(make)
    DBOS.launch()
    slots = asyncio.Semaphore(cap)

    async def one(number: int) -> None:
        async with slots:
            handle = await DBOS.start_workflow_async(workflow, number)
            await handle.get_result(polling_interval_sec=0.05)

    async with client:
        await asyncio.gather(*map(one, range(jobs)))
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
