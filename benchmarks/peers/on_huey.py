"""The same jobs as tasks of huey, on SQLite with its queue synced, a thread a job in flight.

python benchmarks/peers/on_huey.py BASE JOBS CAP FILE
"""

import sys
import threading

import httpx
from huey import SqliteHuey
from orders import TOKEN, Wrong, body, is_over, result_url, submit_url


def main(base: str, jobs: int, cap: int, path: str) -> None:
    """Queue every job, have them done, and leave.

    Raises:
        Wrong: If not all succeed.
    """
    limits = httpx.Limits(max_connections=cap, max_keepalive_connections=cap)
    client = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=100, limits=limits)
    queue = SqliteHuey(filename=path, fsync=True)
    left, lock, done = jobs, threading.Lock(), threading.Event()

    def make(number: int) -> str:
        nonlocal left
        sent = client.post(submit_url(base), json=body(number))
        request_id = str(sent.raise_for_status().json()["request_id"])
        while not is_over(client.get(result_url(base, request_id)).json()):
            pass
        with lock:
            left -= 1
            if not left:
                done.set()
        return request_id

    task = queue.task()(make)
    for number in range(jobs):
        task(number)
    consumer = queue.create_consumer(
        workers=cap, periodic=False, initial_delay=0.001, max_delay=0.05, check_worker_health=False
    )
    consumer.start()
    if not done.wait(600):
        raise Wrong(f"{left} jobs are left")
    consumer.stop(graceful=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
