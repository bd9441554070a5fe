"""
Time stamps of RFC 3161: a clock in other hands saw the checkpoint.

A stamp binds the SHA-256 of the note to a time, so the log's first entries
existed, as they are, not later than that.  It says nothing of the history
before, and an authority stamps whatever it is sent, so it goes with a witness
and not in place of one.

The library `rfc3161-client` (extra ``tsa``) reads and verifies the tokens.
Verifying needs no network: certificates are judged at the time of the stamp.

Source: RFC 3161; RFC 5816; ``docs/spec/anchors.md``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from cryptography.x509 import Certificate, load_pem_x509_certificates

from secureml._extras import require
from secureml.errors import FormatError, SignatureError, StoreError
from secureml.evidence.anchors._http import check_timeout, check_url, post
from secureml.evidence.anchors.receipt import Head, Receipt, check_anchor_name
from secureml.wire._read import shown
from secureml.wire.base64 import b64decode, b64encode

__all__ = ["Authority", "TimeStampAnchor", "stamp_of", "stamped_at"]

_LIMIT: Final = 1 << 16
_MAX_PEM: Final = 1 << 18
_PURPOSE: Final = "to use RFC 3161 time stamps"
_SHA256: Final = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """
    A time stamp authority that is trusted, by its root certificates.

    Attributes:
        name: How people call it.
        roots: PEM of one or more certificates that its chain has to end in.
        certificate: PEM of the one certificate that signs its stamps.  Without
            it, whoever has a certificate for time stamping under one of the
            roots is your clock: give it under a root that certifies many.

    Raises:
        FormatError: No certificates, or more than one that signs.
        ValueError: An empty name.
    """

    name: str
    roots: str
    certificate: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            msg = "a time stamp authority has a name"
            raise ValueError(msg)
        self.root_certificates()
        self.own_certificate()

    def root_certificates(self) -> list[Certificate]:
        """Return the roots."""
        return self._read(self.roots)

    def own_certificate(self) -> Certificate | None:
        """Return the certificate that signs; None when any under the roots may."""
        if not self.certificate:
            return None
        found = self._read(self.certificate)
        if len(found) != 1:
            raise FormatError(
                f"the time stamp authority {self.name!r} has more than one own certificate",
                why=f"{len(found)} blocks were found",
                fix="give the one that signs; those that signed it are roots",
            )
        return found[0]

    def _read(self, pem: str) -> list[Certificate]:
        try:
            return load_pem_x509_certificates(pem.encode()[:_MAX_PEM])
        except ValueError as error:
            raise FormatError(
                f"what the time stamp authority {self.name!r} is known by is no certificate",
                why=shown(str(error)),
                fix="give PEM, one or more blocks 'BEGIN CERTIFICATE', from the authority's own "
                "pages",
            ) from error


def stamped_at(
    token: bytes, note: str, authority: Authority, *, nonce: int | None = None
) -> datetime:
    """
    Check that *authority* stamped *note*, and return when, at the latest.

    Args:
        token: The TimeStampResp, DER.
        note: The note that was stamped.
        authority: Whose roots count.
        nonce: The number that the request had, where it is known.

    Returns ``genTime`` plus the accuracy that the token states, in UTC.

    Raises:
        SignatureError: It did not stamp these bytes.
        FormatError: The token is not one.
        MissingExtraError: ``rfc3161-client`` is not installed.
    """
    client = require("rfc3161_client", purpose=_PURPOSE)
    imprint = sha256(note.encode()).digest()
    try:
        response = client.decode_timestamp_response(token)
    except Exception as error:  # the library names none
        raise _no_token(shown(str(error))) from error
    try:
        builder = client.VerifierBuilder()
        for one in authority.root_certificates():
            builder = builder.add_root_certificate(one)
        own = authority.own_certificate()
        if own is not None:
            builder = builder.tsa_certificate(own)
        if nonce is not None:
            builder = builder.nonce(nonce)
        stated = response.tst_info.message_imprint.hash_algorithm.dotted_string
        builder.build().verify(response, imprint)
        time = _latest(response.tst_info)
    except Exception as error:
        raise SignatureError(
            f"the time stamp is not one of {authority.name!r} on this checkpoint",
            why=shown(str(error)) if str(error) else type(error).__name__,
            fix="get the receipt again from where it was kept; if the authority changed its "
            "root, get the new one from its own pages",
        ) from error
    if stated != _SHA256:
        raise _no_token(f"its imprint is of the algorithm {shown(stated)}, not SHA-256")
    return time


def _latest(info: Any) -> datetime:  # noqa: ANN401  the library's types are not ours to need
    """Return the time of the stamp plus the inaccuracy that it admits."""
    time: datetime = info.gen_time
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    accuracy = info.accuracy
    if accuracy is None:
        return time
    return time + timedelta(
        seconds=accuracy.seconds or 0,
        milliseconds=accuracy.millis or 0,
        microseconds=accuracy.micros or 0,
    )


def _no_token(why: str) -> FormatError:
    return FormatError(
        "this is no RFC 3161 time stamp",
        why=why,
        fix="get it again from where it was kept; if it came from an authority, check its address",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStampAnchor:
    """
    An RFC 3161 time stamp authority, as an anchor.

    A token has some 2 to 6 KiB, so it is asked once an hour by default.

    Attributes:
        name: What its file of receipts is called.
        url: Where it takes requests; https, or http on this machine.
        authority: Whose roots its stamps are verified under, before they are kept.
        timeout: Seconds for one request.
        interval: Seconds between two stamps; None for the policy's.

    Raises:
        ValueError: A field is out of range.
        MissingExtraError: ``rfc3161-client`` is not installed.
    """

    name: str
    url: str
    authority: Authority
    timeout: float = 10.0
    interval: float | None = 3600.0

    def __post_init__(self) -> None:
        check_anchor_name(self.name)
        object.__setattr__(self, "url", check_url(self.url))
        object.__setattr__(self, "timeout", check_timeout(self.timeout))
        require("rfc3161_client", purpose=_PURPOSE)

    @property
    def kind(self) -> str:
        """``rfc3161``."""
        return "rfc3161"

    def submit(self, head: Head) -> Receipt:
        """
        Ask for a stamp on the checkpoint.

        Raises:
            SignatureError: What it answered is not its stamp on these bytes.
            FormatError: Its answer is no time stamp.
            StoreError: It refuses, or did not answer.
        """
        client = require("rfc3161_client", purpose=_PURPOSE)
        request = (
            client.TimestampRequestBuilder()
            .data(head.note.encode())
            .hash_algorithm(client.base.HashAlgorithm.SHA256)
            .nonce(nonce=True)
            .cert_request(cert_request=True)
            .build()
        )
        reply = post(
            self.url,
            request.as_bytes(),
            kind="application/timestamp-query",
            accept="application/timestamp-reply",
            timeout=self.timeout,
            limit=_LIMIT,
        )
        if reply.status not in {200, 201}:
            raise StoreError(
                f"the time stamp authority {self.name!r} gave no stamp",
                why=f"HTTP {reply.status}: {reply.text()}",
                fix="it is tried again; if it goes on, check the address",
                retryable=reply.status == 429 or reply.status >= 500,  # noqa: PLR2004  Too Many
            )
        stamped_at(reply.body, head.note, self.authority, nonce=request.nonce)
        return Receipt("rfc3161", head.note, {"token": b64encode(reply.body)})


def stamp_of(receipt: Receipt, authority: Authority) -> datetime:
    """
    Judge a receipt of the kind ``rfc3161``.

    Raises:
        SignatureError: *authority* did not stamp its note.
        FormatError: Its token is not one.
        MissingExtraError: ``rfc3161-client`` is not installed.
    """
    return stamped_at(b64decode(receipt.values["token"]), receipt.note, authority)
