"""A hand-written asyncio loop without any state: kill it, and everything is lost or paid twice.

python benchmarks/peers/loop.py aiohttp|httpx BASE JOBS CAP
"""

import asyncio
import sys

import httpx
from orders import TOKEN, Wrong, body, is_over, result_url, submit_url


async def main(kind: str, base: str, jobs: int, cap: int) -> None:
    """Send and poll every job, `cap` at a time.

    Raises:
        Wrong: If a job does not succeed.
    """
    # httpx's own limits, as a loop written by hand has them; more only where the cap needs it.
    limits = httpx.Limits(max_connections=max(100, cap), max_keepalive_connections=20)
    transport: httpx.AsyncBaseTransport
    if kind == "aiohttp":
        from httpx_aiohttp import AiohttpTransport

        transport = AiohttpTransport(limits=limits)
    else:
        transport = httpx.AsyncHTTPTransport(limits=limits)
    slots = asyncio.Semaphore(cap)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=100) as client:

        async def make(number: int) -> None:
            async with slots:
                sent = await client.post(submit_url(base), json=body(number))
                request_id = sent.raise_for_status().json()["request_id"]
                while True:
                    result = (await client.get(result_url(base, request_id))).json()
                    if is_over(result):
                        return

        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(make(number))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise Wrong(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
