"""How S3 is reached: credentials, region and endpoint, as the tools of AWS find them.

botocore looks for credentials (environment, profiles, SSO, roles of containers and machines),
for obstore too: so both act as the same user, and a key that expires is renewed for both.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from obstore.store import S3Store

from batchgen.buckets.location import Location
from batchgen.domain.errors import BucketError

if TYPE_CHECKING:
    from obstore.store import S3Credential

# Of each request it tells the headers.
logging.getLogger("botocore").setLevel(logging.WARNING)

_CONNECT_S = 10
_READ_S = 60
_TRIES = 4
_TRUE = frozenset({"1", "true", "yes", "on"})
_RENEWED = timedelta(minutes=5)  # asked for again after it; botocore renews when it must


class S3Access:
    """One user at one S3-speaking service.

    Args:
        location: A place in the bucket.
        environ: The environment.

    Raises:
        BucketError: If there are no credentials, or the endpoint is not one to use.
    """

    def __init__(self, location: Location, environ: Mapping[str, str]) -> None:
        self._location = location
        self._session = botocore.session.get_session()
        try:
            profile_region = self._session.get_config_variable("region")
            found = self._session.get_credentials()
        except BotoCoreError as error:
            raise BucketError(f"{location.root}: {error}") from error
        if found is None:
            raise BucketError(
                f"{location.root}: no credentials: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        self._credentials = found
        self._region = environ.get("AWS_REGION") or profile_region or "us-east-1"
        self._endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
        self._is_plain = environ.get("AWS_ALLOW_HTTP", "").lower() in _TRUE
        self._is_virtual = environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in _TRUE
        self._check_endpoint()

    def store(self, *, retry: Any, client: Any) -> S3Store:
        """Return obstore's way in."""
        options: dict[str, Any] = {"endpoint": self._endpoint} if self._endpoint else {}
        client = {**client, "allow_http": self._is_plain}
        return S3Store(
            self._location.bucket,
            region=self._region,
            virtual_hosted_style_request=self._is_virtual,
            credential_provider=self._provider(),
            client_options=client,
            retry_config=retry,
            **options,
        )

    @cached_property
    def client(self) -> Any:
        """Botocore's way in, for multipart uploads; may be used by several threads."""
        style = "path" if self._endpoint and not self._is_virtual else "auto"
        return self._session.create_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint,
            config=Config(
                connect_timeout=_CONNECT_S,
                read_timeout=_READ_S,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
                s3={"addressing_style": style},
                # What S3 alone adds by itself, and others refuse.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=64,
            ),
        )

    def _provider(self) -> Callable[[], "S3Credential"]:
        def credentials() -> "S3Credential":
            frozen = self._credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(UTC) + _RENEWED,
            }

        return credentials

    def _check_endpoint(self) -> None:
        if not self._endpoint:
            return
        try:
            parts = urlsplit(self._endpoint)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise BucketError("AWS_ENDPOINT_URL names no https address: correct or unset it")
        if parts.scheme == "http" and not self._is_plain:
            raise BucketError(
                f"AWS_ENDPOINT_URL is plain http ({parts.hostname}): use https, or set "
                "AWS_ALLOW_HTTP=true if that network may be trusted"
            )
