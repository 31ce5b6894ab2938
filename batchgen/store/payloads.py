"""Raw answers of the service as they are kept: packed in a file, of which they are a third.

Against a sample of what the service says, one answer of 600 bytes takes 150. A server packs what
is large by itself, and its text holds no bytes: there they stay as they are.
"""

import zlib

from batchgen.domain.errors import StoreError
from batchgen.store.transactions import Transaction

RAW_ANSWERS = ("submit_raw", "status_raw", "result_raw")
"""The columns of an attempt that hold them."""

_KIND = b"\x01"  # which sample: it never changes, another one is another kind
_SAMPLE = (
    b'{"code":"","message":"error","detail":"","outputs":[],"logs":null,"images":[".png","videos":['
    b'"queue_position":0,"status":"in_queue","status":"in_progress","status":"cancelled",'
    b'"status":"failed","error":null,"error_code":null,"error":{"code":"","message":"'
    b'"output":{"image":"https://","output":{"videos":["https://","output":{"video":"https://'
    b'files/.mp4"},"cost":0.25}.mp4?X-Amz-Algorithm=&X-Amz-Credential=&X-Amz-Date=2026&X-Amz-Expires='
    b'"model_id":"runwayml/runway-gen-4/turbo/image-to-video","created_at":"2026-11-30T01:05:33.999'
    b'+00:00","finished_at":"2026-11-30T01:06:35.841Z","cost":0.5}'
    b'{"request_id":"-4-8-9-a-b","status":"succeeded",'
    b'"status_url":"https://model-api.runcomfy.net/v1/requests/'
    b'/status","result_url":"https://model-api.runcomfy.net/v1/requests/'
    b'/result","cancel_url":"https://model-api.runcomfy.net/v1/requests/'
    b'/cancel"}'
)
_WINDOW, _MEMORY, _LEVEL = -13, 5, 6  # 8 KiB, without a header: answers are short


def packed(tx: Transaction, raw: str | None) -> str | bytes | None:
    """Return an answer as a transaction stores it."""
    if raw is None or tx.is_postgresql:
        return raw
    return packed_for_file(raw)


def packed_for_file(raw: str) -> str | bytes:
    """Return an answer as a file keeps it: text where packing gains nothing."""
    plain = raw.encode("utf-8", "surrogatepass")
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=_SAMPLE)
    found = _KIND + packer.compress(plain) + packer.flush()
    return found if len(found) < len(plain) else raw


def unpacked(stored: str | bytes | None) -> str | None:
    """Return an answer as the service said it.

    Raises:
        StoreError: If it was packed in a way that this version does not know, or is damaged.
    """
    if not isinstance(stored, bytes):
        return stored
    if not stored.startswith(_KIND):
        raise StoreError("this answer of the service is kept in a way that is not known")
    unpacker = zlib.decompressobj(_WINDOW, zdict=_SAMPLE)
    try:
        plain = unpacker.decompress(stored[len(_KIND) :]).decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeDecodeError) as error:
        raise StoreError(f"this answer of the service is damaged: {error}") from error
    if not unpacker.eof:  # zlib gives what there is
        raise StoreError("this answer of the service is damaged: its end is missing")
    return plain
