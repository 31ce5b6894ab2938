"""The stand-in service: a real HTTP server on loopback that speaks RunComfy's Model API.

It makes no clip and takes no money, but it keeps books: what it accepted, what it would
have charged, what it told whom. So a test, a trial (`run --simulate`) or a benchmark can
compare what batchgen believes with what the service knows. Every way in which the real
service is known or suspected to misbehave can be switched on: see `Kind`.
"""

from batchgen.providers.simulator.books import Counters, Entry, Ledger
from batchgen.providers.simulator.catalog import Catalog
from batchgen.providers.simulator.clip import clip_bytes
from batchgen.providers.simulator.server import Simulator
from batchgen.providers.simulator.settings import (
    Fault,
    Kind,
    Settings,
    Stage,
    as_json,
    changed,
)
from batchgen.providers.simulator.threads import Handle, serve, start_in_thread

__all__ = [
    "Catalog",
    "Counters",
    "Entry",
    "Fault",
    "Handle",
    "Kind",
    "Ledger",
    "Settings",
    "Simulator",
    "Stage",
    "as_json",
    "changed",
    "clip_bytes",
    "serve",
    "start_in_thread",
]
