"""A folder in memory, where a commit waits for no disk."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")  # on Linux
_ROOM_BYTES = 4 << 30  # for hundreds of databases


def folder() -> Path | None:
    """Return the folder in memory, None if there is none with room where programs may lie."""
    if not (_MEMORY.is_dir() and os.access(_MEMORY, os.W_OK | os.X_OK)):
        return None
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return _MEMORY if shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES else None
