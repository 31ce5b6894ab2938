"""Which inputs are images, video or audio, and which URLs a service may fetch them from."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from batchgen.buckets.location import is_location, parse_location
from batchgen.domain.errors import UsageError
from batchgen.domain.jobs import Model
from batchgen.manifests import schemas
from batchgen.manifests.names import quotes_hint
from batchgen.manifests.schemas import Path, Schema

MAX_URL = 2048
"""Characters; Runway's limit for an asset's URL."""

_PUBLIC = re.compile(
    r"https://(?:[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
    r"(?::[1-9][0-9]{0,3})?(?:/[!-;=?-\[\]_a-z~%]*)?",
    re.ASCII | re.IGNORECASE,
)
_FIT = re.sub(rb"[^!-;=?-\[\]_a-z~%]", b"", bytes(range(128)))
_MOST_ORIGINS = 10_000
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII | re.IGNORECASE)
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "lan", "home", "localdomain", "invalid")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII | re.IGNORECASE)


def media_urls(model: Model, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield every media URL of a job's inputs: its place, itself, and what it is the URL of.

    A place is written as a column names it: `image`, `images.0`, `elements.0.image`. The kind
    is "image", "video" or "audio".
    """
    for path, url, kind in urls_at(model, inputs):
        yield ".".join(map(str, path)), url, kind


def urls_at(model: Model, inputs: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Yield what `media_urls` does, with each place as the steps to it."""
    properties = model.schema.get("properties", {})
    for name, value in inputs.items():
        kind = model.media.get(name)
        if isinstance(value, str | list | dict) and (kind or name in properties):
            schema = properties.get(name, schemas.ANYTHING)
            yield from _urls((name,), value, schema, model.schema, kind)


def _urls(
    path: Path, value: Any, schema: Schema, root: Schema, kind: str | None
) -> Iterator[tuple[Path, str, str]]:
    if not isinstance(value, str | list | dict):
        return
    kind = kind or schemas.media_kind(schema, root)
    if isinstance(value, str):
        if kind:
            yield path, value, kind
        return
    is_list = isinstance(value, list)
    for step in range(len(value)) if is_list else value:
        below = schemas.below(schema, root, step, value)
        if below is not None:
            yield from _urls((*path, step), value[step], below, root, kind if is_list else None)


def url_problem(url: str, *, allow_private: bool) -> str | None:
    """Return what is wrong with a media URL and what to do, None if nothing is.

    Args:
        url: As the user wrote it, outer spaces removed.
        allow_private: Addresses and local names are meant; `http` is allowed on loopback.
    """
    if len(url) <= MAX_URL and _PUBLIC.fullmatch(url) and not _is_local_name(url.split("/")[2]):
        return None
    if is_location(url):
        return _object_problem(url)
    return _form_problem(url) or _place_problem(url, allow_private=allow_private)


class PublicUrls:
    """Knows at once that the URLs of one column are fine, when most are of few hosts."""

    def __init__(self) -> None:
        self._origins: set[str] = set()

    def are_all(self, urls: Sequence[str]) -> bool:
        """Return whether `url_problem` finds nothing in any of them; False if it may."""
        # As `_PUBLIC`, in two parts: the origin with its `/`, and whatever is behind it.
        origins = {url[: url.find("/", 8) + 1] for url in urls}
        if len(self._origins) > _MOST_ORIGINS:
            self._origins.clear()
        for origin in origins - self._origins:
            if not _PUBLIC.fullmatch(origin) or _is_local_name(origin.split("/")[2]):
                return False
            self._origins.add(origin)
        everything = "".join(urls)
        return (
            everything.isascii()
            and not everything.encode().translate(None, _FIT)
            and max(map(len, urls), default=0) <= MAX_URL
        )


def _object_problem(url: str) -> str | None:
    try:
        location = parse_location(url)
    except UsageError as error:
        return str(error)
    return None if location.path else f"{_short(url)} is a whole bucket: name the file in it"


def nearly_url(text: str) -> str | None:
    """Return what is missing in a text that was meant as a URL, None if it was none."""
    quoted = quotes_hint(text)
    if quoted:
        return f"{_short(text)} is not a URL: {quoted}"
    bare = text.removeprefix("//")
    if ("/" in bare or bare.startswith("www.")) and _PUBLIC.fullmatch(f"https://{bare}"):
        return f"{_short(text)} is not a whole URL: add https:// in front of {_short(bare)}"
    return None


def _form_problem(url: str) -> str | None:
    nearly = nearly_url(url)
    if nearly:
        return nearly
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() == "data":
        return "data: URLs are not supported: give the path of the file, or its https URL"
    if len(url) > MAX_URL:
        return f"the URL has {len(url):,} characters, at most {MAX_URL:,} are allowed: shorten it"
    if not scheme or not url[scheme.end() :].startswith("//"):
        if scheme and len(scheme[1]) > 1 and "/" not in url and "\\" not in url:
            return f"{_short(url)} is not an https URL"
        return f"{_short(url)} is not a URL: put the file on the web and give its https URL"
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "the URL contains a space or a line break: write a space as %20"
    if "\\" in url:
        return "the URL contains a backslash: write /"
    if scheme[1].lower() == "file":
        return "file: URLs are not supported: give the path of the file"
    if scheme[1].lower() not in {"http", "https"}:
        return f"{scheme[1]}: URLs are not supported: give an https URL"
    return None


def _place_problem(url: str, *, allow_private: bool) -> str | None:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError as error:
        return f"{_short(url)} is not a valid URL: {error}"
    host = (parts.hostname or "").rstrip(".")
    if not host or not port_is_valid:
        return f"{_short(url)} is not a valid URL: it needs a host, as https://images.example.com/a.jpg"
    if "@" in parts.netloc:
        return "the URL contains a user name or password: use a pre-signed URL instead"
    problem = _host_problem(host, allow_private=allow_private)
    return problem or _scheme_problem(parts, host, allow_private=allow_private)


def _scheme_problem(parts: SplitResult, host: str, *, allow_private: bool) -> str | None:
    if parts.scheme.lower() == "https" or (allow_private and _is_loopback(host)):
        return None
    if allow_private:
        return "http is allowed on loopback only: give an https URL"
    return f"{_short(_bare(parts))} must begin with https://"


def _host_problem(host: str, *, allow_private: bool) -> str | None:
    address = _address(host)
    if address or "." not in host or _is_local_name(host):
        if allow_private:
            return None
        what = "an IP address" if address else "a local name"
        return (
            f"the host {host} is {what}: the service fetches the file from a public domain name "
            "(--allow-private-inputs if it is meant)"
        )
    try:
        labels = host.encode("idna").decode("ascii").split(".")
    except UnicodeError:
        labels = [""]
    if not all(map(_LABEL.fullmatch, labels)) or not labels[-1][0].isalpha():
        return f"the host {_short(host)} is not a domain name"
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host.lower().split(".")[-1] == "localhost"


def _is_local_name(host: str) -> bool:
    return host.partition(":")[0].rpartition(".")[2].lower() in _LOCAL_SUFFIXES


def _bare(parts: SplitResult) -> str:
    # What stands behind `?` may be a signature, which opens the file to whoever reads it.
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
