"""S3 and what speaks like it: requests are signed here, and go the way of all HTTP."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.stores.http import Rules, download
from lull_runtime.stores.stream import Stream

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

_SIGNED_FOR = timedelta(minutes=5)
"""For how long a signed request may begin; one that has begun may take longer."""


@dataclass(frozen=True)
class S3Origin:
    """An object in a bucket.

    Attributes:
        uri: the model's, `s3://BUCKET/KEY`.
        digest: what the object must hash to.
        bucket: its bucket.
        key: its key.
        profile: of the pool's `aws` file.
        rules: where the transfer may go.
    """

    uri: str
    digest: str
    bucket: str
    key: str
    profile: Mapping[str, str]
    rules: Rules

    async def open(self, offset: int) -> Stream:
        """Begin to read at an offset."""
        url = await asyncio.to_thread(self._signed)
        return await download(url, self.uri, offset, self.digest, self.rules, {})

    def _signed(self) -> str:
        import obstore  # only where a pool has such a store
        from obstore.exceptions import BaseError

        try:
            return obstore.sign(store_of(self.bucket, self.profile), "GET", self.key, _SIGNED_FOR)
        except (BaseError, TypeError, ValueError) as error:
            raise ModelError(
                Reason.UNREACHABLE,
                f"{self.uri} cannot be asked for: is it the key of an object, and endpoint_url in the pool's "
                "`aws` a URL?",
            ) from error


def endpoint_of(profile: Mapping[str, str]) -> str:
    """The URL of the service: AWS's own unless the profile names one."""
    return profile.get("endpoint_url") or f"https://s3.{_region_of(profile)}.amazonaws.com"


def store_of(bucket: str, profile: Mapping[str, str]) -> "S3Store":
    """Open a bucket; nothing is asked yet."""
    from obstore.store import S3Store

    config: S3Config = {
        "endpoint": endpoint_of(profile),
        "region": _region_of(profile),
        "access_key_id": profile["aws_access_key_id"],
        "secret_access_key": profile["aws_secret_access_key"],
        "virtual_hosted_style_request": False,
    }
    if token := profile.get("aws_session_token"):
        config["session_token"] = token
    return S3Store(
        bucket,
        config=config,
        client_options={"allow_http": True, "timeout": "300s", "connect_timeout": "10s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def _region_of(profile: Mapping[str, str]) -> str:
    return profile.get("region") or "us-east-1"
