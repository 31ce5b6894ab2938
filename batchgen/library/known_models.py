"""The models that a command knows: shipped ones, the user's, those fetched from the service."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from batchgen import manifests
from batchgen.manifests import Catalog, Folders
from batchgen.settings import api_base, cache_folder, config_folder

_SERVICE = "model-api.runcomfy.net"  # where nothing else is named
_UNSAFE = re.compile(r"[^a-z0-9.-]+")


def folders() -> Folders:
    """Return where this user's models are kept.

    What was fetched is kept for each service by itself: a stand-in says what it likes.
    """
    config, cache = config_folder(), cache_folder()
    return Folders(
        yours=config / "batchgen" / "models" if config else None,
        fetched=cache / "batchgen" / "models" / _service_name() if cache else None,
    )


def known_models() -> Catalog:
    """Return every model that can be used now, by its id."""
    return manifests.load_models(folders())


def shown(path: Path) -> str:
    """Return a path as people read it: `~` for their home."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _service_name() -> str:
    try:
        netloc = urlsplit(api_base() or "").netloc
    except ValueError:  # a base that is refused when it is used
        netloc = ""
    return _UNSAFE.sub("-", (netloc or _SERVICE).lower()).strip(".")[:100] or _SERVICE
