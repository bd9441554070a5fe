"""
DSSE v1: an envelope of a payload and the signatures over it.

What is signed is not the payload but `pae`, which also covers the payload's
type, each with its length: nothing can be shifted between the two.

An envelope is untrusted, whatever it says.  Its ``keyid`` is a hint that
nobody signed.

Source: https://github.com/secure-systems-lab/dsse, ``protocol.md`` and
``envelope.md``, v1.0.
"""

from dataclasses import dataclass

from secureml.wire import canonical
from secureml.wire._read import array, malformed, members, reading, shown, text
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.statement import PAYLOAD_TYPE, Statement

__all__ = ["Envelope", "Signature", "pae"]

_WHAT = "the DSSE envelope"
_PAYLOAD = "the envelope's payload"


def pae(payload_type: str, payload: bytes) -> bytes:
    """
    Return the bytes that are signed: the pre-authentication encoding.

    Source: DSSE v1.0 protocol, "Signature Definition".
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Signature:
    """
    A signature, not yet verified.

    Attributes:
        keyid: A hint which key made it; may be empty; nobody signed it.
        sig: The signature, as the scheme of the key encodes it.

    Raises:
        ValueError: The signature is empty.
    """

    keyid: str
    sig: bytes

    def __post_init__(self) -> None:
        if not self.sig:
            msg = "a signature is empty"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    A payload with signatures over it; untrusted until verified.

    Attributes:
        payload_type: What the payload is: media type or URI.
        payload: The bytes that were signed, exactly.
        signatures: At least one.

    Raises:
        ValueError: No signature, or no payload type.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if not self.signatures:
            msg = "an envelope needs at least one signature"
            raise ValueError(msg)
        if not self.payload_type:
            msg = "an envelope needs a payload type"
            raise ValueError(msg)

    def signed_bytes(self) -> bytes:
        """Return the bytes that each signature is over."""
        return pae(self.payload_type, self.payload)

    @property
    def digest(self) -> Digest:
        """The name of what was said: the SHA-256 of the payload."""
        return Digest.sha256(self.payload)

    def statement(self) -> Statement:
        """
        Read the payload as an in-toto statement; still untrusted.

        Raises:
            FormatError: The payload is of another type, or no statement.
        """
        if self.payload_type != PAYLOAD_TYPE:
            raise malformed(
                _PAYLOAD,
                f"its type is {shown(self.payload_type)}, and a statement has {PAYLOAD_TYPE}",
            )
        return Statement.decode(self.payload)

    def to_json(self) -> dict[str, JSON]:
        """Return the envelope as JSON members; standard base 64, ``keyid`` always present."""
        return {
            "payload": b64encode(self.payload),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": signature.keyid, "sig": b64encode(signature.sig)}
                for signature in self.signatures
            ],
        }

    def encode(self) -> bytes:
        """Return the envelope as canonical JSON."""
        return canonical.encode(self.to_json())

    @classmethod
    def from_json(cls, value: JSON, /) -> "Envelope":
        """
        Read an envelope from parsed JSON.

        Either alphabet of base 64 is taken, and ``keyid`` may be absent,
        null or empty: all as DSSE allows.

        Raises:
            FormatError: Not an envelope, or one with an unknown member.
        """
        top = members(value, _WHAT, required=("payload", "payloadType", "signatures"))
        payload = _b64(text(top["payload"], _WHAT, "payload"))
        signatures = []
        for item in array(top["signatures"], _WHAT, "signatures"):
            one = members(item, _WHAT, required=("sig",), optional=("keyid",))
            keyid = one.get("keyid")
            with reading(_WHAT):
                signatures.append(
                    Signature(
                        "" if keyid is None else text(keyid, _WHAT, "keyid"),
                        _b64(text(one["sig"], _WHAT, "sig")),
                    )
                )
        with reading(_WHAT):
            return cls(text(top["payloadType"], _WHAT, "payloadType"), payload, tuple(signatures))

    @classmethod
    def decode(cls, data: bytes, /) -> "Envelope":
        """
        Read an envelope in any spelling of JSON.

        Raises:
            FormatError: Not an envelope.
        """
        return cls.from_json(canonical.parse(data, what=_WHAT))


def _b64(value: str) -> bytes:
    return b64decode(value, url_safe="-" in value or "_" in value)
