"""What went wrong with a bucket, in clear words: from both libraries' errors to batchgen's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
)
from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from batchgen.buckets.location import Location
from batchgen.domain.errors import BucketError, BucketUnreachable

_CODE = re.compile(r"<Code>(?P<code>[A-Za-z0-9.]{1,60})</Code>")
_STATUS = re.compile(r"status code: (?P<status>[1-5][0-9]{2})")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_DENIED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AuthorizationFailure", "AuthorizationPermissionMismatch"}
)
_BAD_KEY = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "AuthenticationFailed",
        "InvalidSecurity",
    }
)
_OLD_KEY = frozenset({"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"})
_OTHER_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_BUSY = frozenset(
    {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted"}
)


@contextmanager
def bucket_errors(location: Location) -> Iterator[None]:
    """Turn what the libraries raise into a `BucketError` that shows no credential.

    Args:
        location: Where the work is, for the message.
    """
    try:
        yield
    except (BaseError, FileNotFoundError, ClientError, BotoCoreError, HTTPClientError) as error:
        code, status = _said(error)
        if code == "NoSuchUpload":
            said = f"{location.root}: an upload was aborted by somebody else"
            raise BucketUnreachable(said) from error
        if _is_passing(error, code, status):
            what = code or (f"HTTP {status}" if status else "the connection failed")
            raise BucketUnreachable(f"{location.root} does not answer: {what}") from error
        raise BucketError(
            f"{location.root}: {_explained(error, location, code, status)}"
        ) from error


def _said(error: Exception) -> tuple[str, int]:
    """Return the service's own code and the HTTP status; "" and 0 where there is none."""
    if isinstance(error, ClientError):
        said = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return str(error.response.get("Error", {}).get("Code", "")), int(said)
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    return code["code"] if code else "", int(status["status"]) if status else 0


def _is_passing(error: Exception, code: str, status: int) -> bool:
    if code in _BUSY or status in (408, 429) or status >= 500:
        return status != 501
    if isinstance(error, HTTPClientError | ConnectionClosedError):
        return True
    # A request that cannot even be built, one over plain http say, is no trouble of the network.
    return isinstance(error, GenericError) and not status and "error sending" in str(error)


def _explained(error: Exception, location: Location, code: str, status: int) -> str:
    if code in _NO_BUCKET or (status == 404 and not code):
        return "there is no such bucket: make it, or correct its name"
    if code in _OLD_KEY:
        return "the credentials have expired: renew them, then run again"
    if code in _BAD_KEY or isinstance(error, UnauthenticatedError) or status == 401:
        return f"the credentials are refused ({code or status}): correct them ({_where(location)})"
    if code in _OTHER_REGION or status in (301, 307):
        return "the bucket is in another region: set AWS_REGION to it"
    if code in _DENIED or isinstance(error, PermissionDeniedError) or status == 403:
        return "access is denied: these credentials must be allowed to read, write and delete there"
    if code or status:
        return f"refused ({code or f'HTTP {status}'})"
    # What the libraries say may quote a URL with a signature in it.
    return f"it cannot be used ({type(error).__name__}): check the settings ({_where(location)})"


def _where(location: Location) -> str:
    return {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        "gs": "GOOGLE_APPLICATION_CREDENTIALS",
        "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    }[location.scheme]
