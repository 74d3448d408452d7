"""What the clients of an object store have to agree on: Delta and Polars bring their own, beside fsspec's.

Theirs know fewer places for credentials and endpoints than Amazon's own library, which s3fs uses: no ``endpoint_url`` of a
profile, and Polars no profile at all. So they are given what s3fs has found, anew each time, since credentials may expire.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FLAT", "connection", "missing_bucket", "refused", "unreachable"]

#: protocols of stores that have names and no folders: none is made there, and s3fs would make the bucket
FLAT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
_AMAZON = ".amazonaws.com"
#: classes that drivers raise, which are none of Python's own; those that derive from them included
_UNREACHABLE = {"EndpointConnectionError", "ConnectTimeoutError", "HTTPClientError", "ClientConnectionError"}
_REFUSED = {"NoCredentialsError", "PartialCredentialsError", "ClientError", "DefaultCredentialsError", "HttpError"}
#: what Delta's client, which has one class for all, says
_UNREACHABLE_TEXTS = ("client error (Connect)", "operation timed out", "connection closed", "error sending request")
_REFUSED_TEXTS = (
    "403 Forbidden",
    "401 Unauthorized",
    "lacked the necessary privileges",
    "InvalidAccessKeyId",
    "missing credentials",
)


def connection(fs: Any) -> dict[str, str]:
    """Options for Delta and Polars: endpoint, region and credentials as an s3fs file system has found them.

    Args:
        fs: an ``s3fs.S3FileSystem``.
    """
    from fsspec.asyn import sync

    if fs.anon:
        return {**_place(sync(fs.loop, fs.set_session).meta), "aws_skip_signature": "true"}
    meta, credentials = sync(fs.loop, _found, fs)
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    return {**_place(meta), **{name: value for name, value in zip(names, credentials, strict=True) if value}}


async def _found(fs: Any) -> tuple[Any, tuple[str | None, str | None, str | None]]:
    """What a file system knows of its client, and what that signs with now: key, secret and token."""
    client = await fs.set_session()
    if fs.key and fs.secret:
        return client.meta, (fs.key, fs.secret, fs.token)
    credentials = await fs.session.get_credentials()
    if credentials is None:
        return client.meta, (None, None, None)
    now = await credentials.get_frozen_credentials()
    return client.meta, (now.access_key, now.secret_key, now.token)


def _place(meta: Any) -> dict[str, str]:
    """Endpoint and region of a client."""
    endpoint = str(meta.endpoint_url or "")
    options = {"aws_region": str(meta.region_name)} if meta.region_name else {}
    if endpoint and _AMAZON not in endpoint:
        options["aws_endpoint_url"] = endpoint
        if endpoint.startswith("http://"):
            options["aws_allow_http"] = "true"
    return options


def missing_bucket(error: BaseException | None) -> bool:
    """Whether a driver, or Delta, says that the bucket is not there."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket":
            return True
        if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
            return True
        error = error.__cause__
    return False


def unreachable(error: BaseException) -> bool:
    """Whether a store did not answer at all."""
    return _is_one_of(error, _UNREACHABLE) or _says(error, _UNREACHABLE_TEXTS)


def refused(error: BaseException) -> bool:
    """Whether a store answered that it does not know, or does not let in, who asks."""
    return _is_one_of(error, _REFUSED) or _says(error, _REFUSED_TEXTS)


def _is_one_of(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    """Whether Delta's client says so; others raise what belongs to the case."""
    text = str(error)
    return ("Generic S3 error" in text or "Error performing" in text) and any(one in text for one in texts)
