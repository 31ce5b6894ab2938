"""Posters that were made before, by the digest of their clip, in the user's cache folder."""

import contextlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DIGEST = re.compile("[0-9a-f]{64}")
_UNUSED_S = 90 * 86_400.0  # then a poster is forgotten


@dataclass(frozen=True)
class Cache:
    """A folder of posters; None keeps nothing.

    A cache that cannot be read or written costs time, never a report.
    """

    folder: Path | None

    def get(self, digest: str, longest: int) -> tuple[dict[str, Any], bytes] | None:
        """Return what `put` was given, None if it is not there."""
        path = self._path(digest, longest)
        if path is None:
            return None
        try:
            head, _, data = path.read_bytes().partition(b"\n")
            facts = json.loads(head)
        except (OSError, ValueError):
            return None
        if not isinstance(facts, dict) or facts.get("bytes") != len(data):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # in use
        return facts, data

    def put(self, digest: str, longest: int, facts: dict[str, Any], data: bytes) -> None:
        """Keep a poster with the facts of its clip."""
        path = self._path(digest, longest)
        if path is None:
            return
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(json.dumps(facts).encode() + b"\n" + data)
            temporary.replace(path)

    def forget_unused(self) -> None:
        """Remove what no report has used for 90 days."""
        if self.folder is None:
            return
        oldest = time.time() - _UNUSED_S
        with contextlib.suppress(OSError):
            for path in self.folder.glob("??/*"):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _path(self, digest: str, longest: int) -> Path | None:
        if self.folder is None or not _DIGEST.fullmatch(digest):
            return None
        return self.folder / digest[:2] / f"{digest}-{longest}.webp"
