"""What makes two jobs the same: canonical inputs, hashes, keys.

A change here changes hashes, and with them what is paid for again. The golden values in
`tests/domain/test_identity.py` must never change.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from batchgen.domain.input_files import START, parse_input_file

_CLOUDFRONT = frozenset({"expires", "signature", "key-pair-id", "policy"})
_AZURE = frozenset(
    {"sv", "ss", "srt", "sp", "se", "st", "spr", "sig", "sr", "sip", "si", "sdd"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "rscc", "rscd", "rsce", "rscl", "rsct"}
)
_PLAIN = re.compile(r"[\w. -]*")  # nothing that JSON escapes
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def job_label(row_id: str, variant: str) -> str:
    """Return a job's id and variant as people read and write them: `harbor`, `harbor-2`."""
    return f"{row_id}-{variant}" if variant else row_id


def input_hash(model: str, inputs: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of a model and its inputs in canonical form.

    Left out are values equal to the schema's default, the signature parameters of
    pre-signed URLs and the paths of local files; line ends count as LF. So naming a default,
    signing a link anew, moving a file or saving the manifest on another system never makes a
    new job.
    """
    properties = schema.get("properties", {})
    relevant = {
        name: canonical(value)
        for name, value in inputs.items()
        if not is_default(value, properties.get(name, {}))
    }
    text = _encode([model, relevant])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def input_hashes(model: str, canonical_members: Iterable[str]) -> list[str]:
    """Return what `input_hash` does, of many inputs whose canonical form is at hand.

    Args:
        model: Model id.
        canonical_members: For each the `member` of every input that is no default, in the
            order of their names, one behind the other.
    """
    start, sha256 = f"[{_encode(model)},{{", hashlib.sha256
    return [
        sha256(f"{start}{members[:-1]}}}]".encode("utf-8", "surrogatepass")).hexdigest()
        for members in canonical_members
    ]


def member(name: str, value: Any) -> str:
    """Return a name and a value in canonical form as they stand in a JSON object, and a comma."""
    return f"{_encode(name)}:{_encode(canonical(value))},"


def settings_of(inputs: Mapping[str, Any], schema: Mapping[str, Any], *, seed: str | None) -> str:
    """Return, as JSON, the inputs that decide what a clip costs and how long it takes.

    Those are numbers, flags and choices; not texts, not media, not the seed. Values equal to
    the schema's default are left out, so naming a default changes nothing.
    """
    properties = schema.get("properties", {})
    relevant = {
        name: canonical(value)
        for name, value in inputs.items()
        if name != seed and is_setting(value, properties.get(name, {}))
    }
    return _encode(relevant)


def is_setting(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value that is no seed decides what a clip costs and how long it takes."""
    is_choice = isinstance(value, int | float) or "enum" in schema
    return is_choice and not is_default(value, schema)


def canonical(value: Any) -> Any:
    """Return a value as it is hashed: LF line ends, files by content, unsigned URLs, 5.0 as 5."""
    if isinstance(value, str):
        return _canonical_text(value)
    if isinstance(value, Mapping):
        return {name: canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _canonical_text(value: str) -> str:
    if value.startswith(START) and (file := parse_input_file(value)) is not None:
        return f"sha256:{file.sha256}"
    if "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    return unsigned_url(value) if "?" in value else value


def unsigned_url(value: str) -> str:
    """Return a pre-signed URL without its signature parameters; any other text unchanged.

    Known are S3 (`X-Amz-*`), Google (`X-Goog-*`), Azure SAS (where `sig` is present) and
    CloudFront (where `Signature` is present).
    """
    if not re.match(r"https?://\S+\?\S+$", value):
        return value
    parts = urlsplit(value)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in pairs}
    signature: set[str] = {name for name in names if name.startswith(("x-amz-", "x-goog-"))}
    if "sig" in names:
        signature |= _AZURE
    if "signature" in names and "key-pair-id" in names:
        signature |= _CLOUDFRONT
    kept = [(name, text) for name, text in pairs if name.lower() not in signature]
    if len(kept) == len(pairs):
        return value
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(kept), ""))


def job_key(batch: str, row_id: str, variant_kind: str, variant: str, *, salt: int = 0) -> str:
    """Return the key of a new job: opaque, starts with a letter, safe in a spreadsheet.

    A key is given once and stays with its job whatever is renamed later; `salt` counts up
    when the key is already taken by a job that has been renamed since.
    """
    text = json.dumps([batch, row_id, variant_kind, variant, salt], ensure_ascii=False)
    return "j" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


class KeyMaker(Protocol):
    """Makes the keys of one batch."""

    def __call__(self, row_id: str, variant_kind: str, variant: str, *, salt: int = 0) -> str:
        """Return what `job_key` does."""


def job_keys(batch: str) -> KeyMaker:
    """Return `job_key` for many jobs of one batch, several times as fast."""
    begun = hashlib.sha256(
        f"[{json.dumps(batch, ensure_ascii=False)}, ".encode("utf-8", "surrogatepass")
    )

    is_plain = _PLAIN.fullmatch

    def key_of(row_id: str, variant_kind: str, variant: str, *, salt: int = 0) -> str:
        if salt or not is_plain(row_id) or (variant and not is_plain(variant)):
            return job_key(batch, row_id, variant_kind, variant, salt=salt)
        digest = begun.copy()
        digest.update(f'"{row_id}", "{variant_kind}", "{variant}", 0]'.encode())
        return "j" + digest.hexdigest()[:20]

    return key_of


def is_default(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value is the one the schema gives to an input that is absent."""
    if "default" not in schema:
        return False
    default = schema["default"]
    # True == 1 in Python, but they are different inputs.
    return bool(canonical(value) == canonical(default)) and isinstance(value, bool) == isinstance(
        default, bool
    )
