"""
A copy in S3 under Object Lock: nobody can delete it before its time.

Each object is created with ``If-None-Match: *`` and a retention in COMPLIANCE
mode, which not even the account's root can shorten.  A delete marker hides a
key and a second version covers it; both are seen, because objects are listed
and read by version.

The library `boto3` (extra ``aws``) talks to the bucket.  The bucket must have
been made with Object Lock enabled.

Source: Amazon S3 User Guide, "Locking objects with Object Lock" and
"Conditional requests".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from secureml._extras import require
from secureml.clock import Clock, now
from secureml.errors import FormatError, StoreError
from secureml.evidence.anchors.stores import MAX_OBJECT, Kept, Version, already_there
from secureml.wire._read import shown

__all__ = ["ObjectLock"]

_PURPOSE = "to keep a copy in S3"
_EXISTS = frozenset({"PreconditionFailed", "412"})
_AGAIN = frozenset({"ConditionalRequestConflict", "SlowDown", "Throttling", "RequestTimeout"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """
    An S3 bucket with Object Lock, as a place for a copy.

    Attributes:
        bucket: The bucket; Object Lock has to be enabled in it.
        prefix: What the names of the log's objects begin with; one log, one prefix.
        retain: How long each object is kept from when it was written, in
            COMPLIANCE mode.  It cannot be taken back: try with a day first.
        client: A boto3 client for S3; by default one is made, with short timeouts.
        endpoint_url: Another address than Amazon's, for the client that is made.
        region: The region, for the client that is made.
        clock: Gives the time that retention counts from.

    Raises:
        ValueError: A prefix that begins with a slash, or a retention below a second.
        MissingExtraError: ``boto3`` is not installed.
    """

    bucket: str
    prefix: str
    retain: timedelta
    client: Any = None
    endpoint_url: str | None = None
    region: str | None = None
    clock: Clock = now

    def __post_init__(self) -> None:
        if self.retain < timedelta(seconds=1):
            msg = f"a copy is kept for a second or more, not {self.retain}"
            raise ValueError(msg)
        if self.prefix.startswith("/") or not self.bucket:
            msg = f"a bucket has a name, and a prefix no slash in front: {shown(self.prefix)}"
            raise ValueError(msg)
        if self.prefix and not self.prefix.endswith("/"):
            object.__setattr__(self, "prefix", self.prefix + "/")
        if self.client is None:
            object.__setattr__(self, "client", self._client())

    def _client(self) -> object:
        boto3 = require("boto3", purpose=_PURPOSE)
        config = require("botocore.config", purpose=_PURPOSE).Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 2},
        )
        try:
            return boto3.client(
                "s3", endpoint_url=self.endpoint_url, region_name=self.region, config=config
            )
        except Exception as error:  # a profile or a region that is missing: the library's own
            raise _refused(self.place, "no client could be made", error) from error

    @property
    def locks(self) -> bool:
        """True: each object has a retention."""
        return True

    @property
    def place(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}"

    def put_new(self, name: str, data: bytes) -> Kept:
        """
        Create an object under a retention, and make sure that it has one.

        Raises:
            ConsistencyError: Other bytes have the name.
            StoreError: S3 refuses or does not answer, or the object is not locked.
        """
        until = (self.clock() + self.retain).astimezone(UTC).replace(microsecond=0)
        try:
            done = self.client.put_object(
                Bucket=self.bucket,
                Key=self.prefix + name,
                Body=data,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=until,
            )
        except Exception as error:
            if _code(error) not in _EXISTS:
                raise _refused(self.place, f"{name!r} was not taken", error) from error
            return self._same(name, data)
        version = str(done.get("VersionId") or "")
        return self._locked(name, version)

    def _same(self, name: str, data: bytes) -> Kept:
        """Compare with what is there already; a delete marker may lie over it."""
        first = next(
            (one for one in self.versions(name) if one.name == name and one.version), None
        )
        if first is None:
            raise StoreError(
                f"{name!r} is there and is not in {self.place}",
                why="S3 says that it exists, and lists no version of it",
                fix="it is tried again",
                retryable=True,
            )
        found = self.read(first, limit=MAX_OBJECT)
        if found != data:
            raise already_there(self.place, name, found, data)
        return self._locked(name, first.version)

    def _locked(self, name: str, version: str) -> Kept:
        until = self._until(name, version)
        if not version or until is None:
            raise StoreError(
                f"{name!r} in {self.place} is not locked",
                why="it has no version, or no retention in COMPLIANCE mode",
                fix="use a bucket that was made with Object Lock enabled; allow "
                "s3:PutObjectRetention",
            )
        return Kept(version, until)

    def _until(self, name: str, version: str) -> datetime | None:
        head = self._ask(
            f"{name!r} could not be read",
            lambda: self.client.head_object(
                Bucket=self.bucket, Key=self.prefix + name, VersionId=version
            ),
        )
        until = head.get("ObjectLockRetainUntilDate")
        if head.get("ObjectLockMode") != "COMPLIANCE" or not isinstance(until, datetime):
            return None
        return until.astimezone(UTC)

    def names(self, prefix: str) -> Iterator[str]:
        """
        Yield the names below *prefix* that are not hidden.

        Raises:
            StoreError: S3 refuses or does not answer.
        """
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        for page in self._pages(pages):
            for one in page.get("Contents", ()):
                yield str(one["Key"])[len(self.prefix) :]

    def versions(self, prefix: str) -> Iterator[Version]:
        """
        Yield all versions below *prefix*, of a name the oldest first.

        Raises:
            StoreError: S3 refuses or does not answer.
        """
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        found: dict[str, list[str]] = {}
        hidden: set[str] = set()
        for page in self._pages(pages):
            for one in page.get("Versions", ()):
                found.setdefault(str(one["Key"]), []).append(str(one["VersionId"]))
            hidden |= {str(m["Key"]) for m in page.get("DeleteMarkers", ()) if m["IsLatest"]}
        for key in sorted(found):
            name = key[len(self.prefix) :]
            for version in reversed(found[key]):  # S3 lists the newest first
                yield Version(name, version, hidden=key in hidden)

    def until(self, version: Version) -> datetime | None:
        """
        Return before when a version cannot be deleted; None when it is not locked.

        Raises:
            StoreError: S3 refuses or does not answer.
        """
        return self._until(version.name, version.version)

    def read(self, version: Version, *, limit: int) -> bytes:
        """
        Return the bytes of one version.

        Raises:
            FormatError: More than *limit*.
            StoreError: S3 refuses or does not answer.
        """
        what = f"{version.name!r} could not be read"

        def fetch() -> bytes:
            got = self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + version.name, VersionId=version.version
            )
            with got["Body"] as body:
                return bytes(body.read(limit + 1))

        data = self._ask(what, fetch)
        if len(data) > limit:
            raise FormatError(
                f"{version.name!r} in {self.place} is longer than its format allows",
                why=f"at most {limit} bytes can be in it",
                fix="find out who wrote it; older versions of it are kept",
            )
        return data

    def _pages(self, pages: Any) -> Iterator[Any]:  # noqa: ANN401  the library's pages
        iterator = iter(pages)
        while True:
            page = self._ask("it could not be listed", lambda: next(iterator, None))
            if page is None:
                return
            yield page

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # the library's errors are made at run time
            raise _refused(self.place, what, error) from error


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    found = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(found.get("Code", ""))


def _refused(place: str, what: str, error: Exception) -> StoreError:
    response = getattr(error, "response", None)
    meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = meta.get("HTTPStatusCode")
    again = status is None or status >= 500 or _code(error) in _AGAIN  # noqa: PLR2004  server's
    return StoreError(
        f"the copy at {place} failed: {what}",
        why=f"{type(error).__name__}: {shown(str(error))}",
        fix="it is tried again" if again else "check credentials, permissions and the bucket",
        retryable=again,
    )
