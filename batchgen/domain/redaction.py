"""What may be shown of a text that holds URLs: a signed one opens a file to whoever reads it."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

REDACTED = "[redacted]"

_LONG_SECRET = 16
_URL_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>`\\]+", re.IGNORECASE)
_SIGNATURE_IN_TEXT = re.compile(
    # Also where a URL is not seen as one: `\/\/` and `\u0026` of JSON, `%3D` of a URL in a URL.
    r"(?P<name>(?:(?<![a-z0-9_-])|(?<=u0026)|(?<=%26)|(?<=%3F))"
    r"(?:x-(?:amz|goog|oss)-[a-z-]+|sig|signature|key-pair-id|policy)(?:=|%3D))"
    r"(?:(?!%26|&)[^\s\"'<>`\\])+",
    re.IGNORECASE,
)
_DATA_IN_TEXT = re.compile(  # in JSON, `/` may be escaped
    r"data:[a-z]+\\?/[a-z0-9.+-]+;base64,[a-z0-9+/=\\]*", re.IGNORECASE
)
# Without one of these, none of the above finds anything; of thousands of texts a second most have
# none.
_OF_URLS_AND_SECRETS = ("://", "=", "%3", ";")
_OF_SECRETS = ("sig", "x-", "key-pair-id", "policy", ";base64,")  # in small letters
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)  # the last may be cut off
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CREDENTIAL = re.compile(
    r"sig|token|key|polic|credential|auth|expire|secret|password|hmac|ticket"
    r"|^x-(?:amz|goog|oss|ms)-|^s[erpv]$",
    re.IGNORECASE,
)


def secret_pattern(secret: str) -> re.Pattern[str]:
    """Return what finds a secret in a text.

    A short one may be part of an innocent word, and hiding it there would spoil what is kept:
    it is found where it stands alone.
    """
    found = re.escape(secret)
    if len(secret) < _LONG_SECRET:
        found = f"(?<![A-Za-z0-9_-]){found}(?![A-Za-z0-9_-])"
    return re.compile(found)


def redact_url(url: str) -> str:
    """Return a URL for people: query, fragment and user info replaced, a data URI cut."""
    if url[:5].lower() == "data:":
        return f"data:{REDACTED}"
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    if not (parts.query or parts.fragment or "@" in parts.netloc):
        return url  # as it was written: putting the parts together may spell it otherwise
    user, at, host = parts.netloc.rpartition("@")
    # A name alone may be a key, but where it is one that people log in with.
    is_name = ":" not in user and not parts.scheme.startswith("http")
    return urlunsplit(
        (
            parts.scheme,
            f"{user if is_name else REDACTED}@{host}" if at else host,
            parts.path,
            REDACTED if parts.query else "",
            REDACTED if parts.fragment else "",
        )
    )


def redact_text(text: str) -> str:
    """Return a text with every URL in it redacted, and every signature that stands alone."""
    if not any(part in text for part in _OF_URLS_AND_SECRETS):
        return text
    text = _URL_IN_TEXT.sub(lambda found: redact_url(found.group()), text)
    text = _DATA_IN_TEXT.sub(f"data:{REDACTED}", text)
    return _SIGNATURE_IN_TEXT.sub(rf"\g<name>{REDACTED}", text)


def unsigned_answer(text: str, keep: Callable[[], Collection[str]]) -> str:
    """Return what a service answered without signatures and files that it repeats of a request.

    Args:
        text: The answer: JSON, or anything else.
        keep: Returns the links in it that must stay: those to what was made.
    """
    folded = text.casefold()  # a pattern without regard to case takes ten times as long
    if not any(part in folded for part in _OF_SECRETS):
        return text
    if not text.lstrip().startswith(("{", "[")):
        return _unsigned(text)
    kept: Collection[str] | None = None

    def one(found: re.Match[str]) -> str:
        nonlocal kept
        said = found.group()
        without = _unsigned(said)
        if without == said:
            return said
        if kept is None:
            kept = keep()
        try:
            is_kept = json.loads(said, strict=False).strip() in kept
        except ValueError:  # of half an answer
            is_kept = False
        return said if is_kept else without

    return _JSON_TEXT.sub(one, text)


def _unsigned(text: str) -> str:
    text = _DATA_IN_TEXT.sub(f"data:{REDACTED}", text)
    return _SIGNATURE_IN_TEXT.sub(rf"\g<name>{REDACTED}", text)


# Nothing but scheme, host and path, in letters that mean nothing else: most are of this kind.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[A-Za-z0-9._~/-]*)?")


def redact_all(value: Any) -> Any:
    """Return JSON-like data with every text in it redacted."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: redact_all(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(part) for part in value]
    return value


def printable(text: str) -> str:
    """Return a text whose control characters are spelled out: they could steer the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def public_url(url: str) -> str:
    """Return a URL for tables that go to others: as it is, but for what may be a credential.

    Without the whole query if any of its parameters looks like a part of a signature, without
    user info and fragment.
    """
    if _PLAIN_URL.fullmatch(url):
        return url
    try:
        parts = urlsplit(url)
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        return REDACTED
    query = "" if any(map(_CREDENTIAL.search, names)) else parts.query
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def public_all(value: Any) -> Any:
    """Return JSON-like data with every URL in it as `public_url`, and all else as it is."""
    if isinstance(value, str):
        if "://" not in value:
            return value
        return _URL_IN_TEXT.sub(lambda found: public_url(found.group()), value)
    if isinstance(value, Mapping):
        return {name: public_all(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [public_all(part) for part in value]
    return value
