"""Which URLs a service may be asked to fetch an image, video or sound from."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2048
"""Characters; Runway's limit for an asset's URL."""

_PUBLIC = re.compile(
    r"https://(?:[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
    r"(?::[1-9][0-9]{0,3})?(?:/[!-;=?-\[\]_a-z~%]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII | re.IGNORECASE)
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "lan", "home", "localdomain", "invalid")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII | re.IGNORECASE)


def url_problem(url: str, *, allow_private: bool) -> str | None:
    """Return what is wrong with a media URL and what to do, None if nothing is.

    Args:
        url: As the user wrote it, outer spaces removed.
        allow_private: Addresses and local names are meant; `http` is allowed on loopback.
    """
    if len(url) <= MAX_URL and _PUBLIC.fullmatch(url) and not _is_local_name(url.split("/")[2]):
        return None
    return _form_problem(url) or _place_problem(url, allow_private=allow_private)


def _form_problem(url: str) -> str | None:
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() == "data":
        return "data: URLs are not supported: put the file on the web and give its https URL"
    if len(url) > MAX_URL:
        return f"the URL has {len(url):,} characters, at most {MAX_URL:,} are allowed: shorten it"
    if not scheme or not url[scheme.end() :].startswith("//"):
        if scheme and len(scheme[1]) > 1 and "/" not in url and "\\" not in url:
            return f"{_short(url)} is not an https URL"
        return (
            f"{_short(url)} is not a URL: local files are not supported in this version, "
            "put the file on the web and give its https URL"
        )
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "the URL contains a space or a line break: write a space as %20"
    if "\\" in url:
        return "the URL contains a backslash: write /"
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
