"""The one signature that the auditors' file verifies itself: RFC 8032, checked from outside."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secureml.errors import FormatError
from secureml.evidence.standalone.verify_log import (
    BASE,
    ORDER,
    Key,
    P,
    Refused,
    decode_point,
    ed25519_verify,
    small_order,
)
from secureml.keys import Verifier
from secureml.wire.note import ED25519, VKey

VECTORS = Path(__file__).parents[4] / "vectors"
WYCHEPROOF = json.loads((VECTORS / "wycheproof-ed25519/ed25519.json").read_text("utf-8"))
RFC = json.loads((VECTORS / "rfc8032/ed25519.json").read_text("utf-8"))
CASES = [
    pytest.param(bytes.fromhex(group["key"]), one, id=str(one["id"]))
    for group in WYCHEPROOF["groups"]
    for one in group["tests"]
]


def theirs(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return the verdict of cryptography, which is that of OpenSSL."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_vectors_are_all_there() -> None:
    """210 tests of Wycheproof, with where they come from and under which licence."""
    assert len(CASES) == 210
    assert WYCHEPROOF["source"].startswith("Project Wycheproof")
    assert WYCHEPROOF["licence"].startswith("Apache-2.0")
    assert RFC["source"]


@pytest.mark.parametrize(("key", "case"), CASES)
def test_wycheproof(key: bytes, case: dict[str, str]) -> None:
    """Each verdict is that of Wycheproof, and that of cryptography."""
    signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])

    found = ed25519_verify(key, signature, message)

    assert found == theirs(key, signature, message)
    assert found == (case["result"] != "invalid")


@pytest.mark.parametrize("name", RFC["tests"])
def test_rfc_8032(name: str) -> None:
    """The vectors of the RFC verify, and none with one bit changed does."""
    case = {part: bytes.fromhex(digits) for part, digits in RFC["tests"][name].items()}

    assert ed25519_verify(case["key"], case["sig"], case["msg"])
    for part in ("key", "sig", "msg"):
        for bit in range(0, 8 * len(case[part]), 37):
            data = bytearray(case[part])
            data[bit // 8] ^= 1 << bit % 8
            bad = {**case, part: bytes(data)}
            assert not ed25519_verify(bad["key"], bad["sig"], bad["msg"])
            assert not theirs(bad["key"], bad["sig"], bad["msg"])


@pytest.mark.parametrize(
    "key",
    [
        *sorted({bytes.fromhex(group["key"]) for group in WYCHEPROOF["groups"]} - {bytes(32)}),
        *((P + n).to_bytes(32, "little") for n in range(19)),  # y in another spelling
        *((P + n + (1 << 255)).to_bytes(32, "little") for n in range(19)),
        (1 | 1 << 255).to_bytes(32, "little"),  # minus zero
        (P - 1 | 1 << 255).to_bytes(32, "little"),
        bytes(32),
        bytes([2]) + bytes(31),  # not on the curve
    ],
    ids=bytes.hex,
)
def test_a_key_is_one_exactly_when_the_library_says_so(key: bytes) -> None:
    """Small order, another spelling, no point: refused as keys by both, or by neither."""
    vkey = VKey("name", ED25519, key).encode()
    try:
        Verifier.from_key(Ed25519PublicKey.from_public_bytes(key))
    except (FormatError, ValueError):
        expected = False
    else:
        # OpenSSL takes 32 bytes for a key without looking whether they are a point.
        expected = decode_point(key) is not None

    try:
        Key(vkey)
    except Refused:
        found = False
    else:
        found = True

    assert found == expected


def test_lengths() -> None:
    """A key has 32 bytes and a signature 64, and nothing else is one."""
    case = {part: bytes.fromhex(digits) for part, digits in RFC["tests"]["TEST 2"].items()}

    assert not ed25519_verify(case["key"][:-1], case["sig"], case["msg"])
    assert not ed25519_verify(case["key"] + b"\0", case["sig"], case["msg"])
    assert not ed25519_verify(case["key"], case["sig"][:-1], case["msg"])
    assert not ed25519_verify(case["key"], case["sig"] + b"\0", case["msg"])
    more = int.from_bytes(case["sig"][32:], "little") + ORDER
    again = case["sig"][:32] + more.to_bytes(32, "little")
    assert not ed25519_verify(case["key"], again, case["msg"])


def test_the_base_point() -> None:
    """B is the point with y = 4/5 and an even x, and its order is not small."""
    x, y, z, t = BASE

    assert (5 * y % P, x & 1, z, x * y % P) == (4, 0, 1, t)
    assert not small_order(BASE)
