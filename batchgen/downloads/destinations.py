"""The destinations of one job database: a batch's text read, and opened once."""

from pathlib import Path
from threading import Lock

from batchgen.buckets.location import is_location, parse_location
from batchgen.downloads.bucket import BucketDestination
from batchgen.downloads.destination import Destination
from batchgen.downloads.folder import Folder


class Destinations:
    """The destinations of one job database, each opened once.

    Args:
        root: Where relative folders start: the job database's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Destination] = {}
        self._lock = Lock()

    def of(self, output_dir: str) -> Destination:
        """Return what a batch's text names; no service is asked yet.

        Raises:
            UsageError: If it names no place in object storage, but looks like one.
        """
        with self._lock:
            found = self._known.get(output_dir)
            if found is None:
                found = self._known[output_dir] = self._opened(output_dir)
            return found

    def _opened(self, output_dir: str) -> Destination:
        if is_location(output_dir):
            return BucketDestination(parse_location(output_dir))
        return Folder(self._root / Path(output_dir).expanduser())
