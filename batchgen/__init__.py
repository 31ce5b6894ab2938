"""batchgen: run hundreds of paid video generations, lose none, pay for none twice.

`batchgen.open` opens a job database; `docs/library.md` tells the rest. What is imported for it
is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchgen.domain.errors import (
        BatchgenError,
        DownloadError,
        Halted,
        InDoubt,
        ManifestError,
        NoClip,
        NoSuchBatch,
        NoSuchJob,
        NotNow,
        OutputError,
        ProviderError,
        StoreError,
        UsageError,
    )
    from batchgen.domain.states import JobState
    from batchgen.library.database import JobDatabase, open
    from batchgen.library.values import Added, Clip, Ended, Event, Result, Standing, Submitted

__version__ = "0.1.0"

__all__ = [
    "Added",
    "BatchgenError",
    "Clip",
    "DownloadError",
    "Ended",
    "Event",
    "Halted",
    "InDoubt",
    "JobDatabase",
    "JobState",
    "ManifestError",
    "NoClip",
    "NoSuchBatch",
    "NoSuchJob",
    "NotNow",
    "OutputError",
    "ProviderError",
    "Result",
    "Standing",
    "StoreError",
    "Submitted",
    "UsageError",
    "__version__",
    "open",
]

_VALUES = frozenset({"Added", "Clip", "Ended", "Event", "Result", "Standing", "Submitted"})
_PLACES = {
    **dict.fromkeys(("JobDatabase", "open"), "batchgen.library.database"),
    **dict.fromkeys(_VALUES, "batchgen.library.values"),
    "JobState": "batchgen.domain.states",
}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'batchgen' has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "batchgen.domain.errors")), name)
