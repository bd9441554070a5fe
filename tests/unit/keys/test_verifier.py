"""Public keys: names, spellings, and the keys that are refused."""

import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from secureml.errors import FormatError, SignatureError
from secureml.keys import SCHEMES, Verifier, generate

PRIME = 2**255 - 19
POINT_D = -121665 * pow(121666, -1, PRIME) % PRIME
SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signature_verifies_under_its_key_only(scheme: str) -> None:
    """Each scheme signs and verifies; another message or key is refused."""
    signer, other = generate(scheme), generate(scheme)

    signature = signer.sign(b"message", purpose="statements")

    signer.verifier.verify(signature, b"message")
    with pytest.raises(SignatureError):
        signer.verifier.verify(signature, b"messagf")
    with pytest.raises(SignatureError):
        other.verifier.verify(signature, b"message")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_names(scheme: str) -> None:
    """The fingerprint is that of the DER, the hint that of the PEM text; the scheme is known."""
    verifier = generate(scheme).verifier

    assert verifier.fingerprint == f"sha256:{hashlib.sha256(verifier.der).hexdigest()}"
    assert verifier.hint == hashlib.sha256(verifier.pem.encode()).hexdigest()
    assert verifier.scheme == scheme
    assert verifier.fingerprint in repr(verifier)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_is_a_value(scheme: str) -> None:
    """Equal keys are equal, hash equal, and survive pickling and PEM."""
    verifier = generate(scheme).verifier

    for same in (
        pickle.loads(pickle.dumps(verifier)),  # noqa: S301  our own bytes
        Verifier.from_pem(verifier.pem),
        Verifier.from_pem(verifier.pem.encode().replace(b"\n", b"\r\n")),
        Verifier(verifier.der),
    ):
        assert same == verifier
        assert hash(same) == hash(verifier)
        assert same.hint == verifier.hint


def test_raw_is_for_ed25519() -> None:
    """An Ed25519 key has 32 raw bytes, an ECDSA key has none."""
    verifier = generate("ed25519").verifier

    assert verifier.der == SPKI_ED25519 + verifier.raw
    with pytest.raises(ValueError, match="ecdsa-p256"):
        _ = generate().verifier.raw


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        dsa.generate_private_key(2048),
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP224R1()),
    ],
    ids=["rsa", "dsa", "x25519", "secp256k1", "secp224r1"],
)
def test_other_schemes_are_refused(key: rsa.RSAPrivateKey) -> None:
    """A key of another scheme is refused, and the error names the schemes there are."""
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    with pytest.raises(FormatError, match="ed25519, ecdsa-p256, ecdsa-p384, ecdsa-p521"):
        Verifier.from_pem(pem)
    with pytest.raises(FormatError):
        Verifier.from_key(public)


def test_a_private_key_is_not_read_as_a_public_one() -> None:
    """Whoever pastes the private half is told so."""
    with pytest.raises(FormatError, match="private key where a public key belongs"):
        Verifier.from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "hello",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\n" + "A" * 20_000,
        "\ud800",
    ],
)
def test_other_text_is_refused(pem: str) -> None:
    """Text that is not one public key is a format error, and nothing else."""
    with pytest.raises(FormatError):
        Verifier.from_pem(pem)


def test_two_keys_in_one_text_are_refused() -> None:
    """Which of two would be meant is not guessed."""
    with pytest.raises(FormatError, match="one block"):
        Verifier.from_pem(generate().verifier.pem + generate().verifier.pem)


def test_der_has_one_spelling() -> None:
    """A compressed point is the same key, but not its DER; trailing bytes are refused."""
    verifier = generate().verifier
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), verifier.der[-65:])
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point

    with pytest.raises(FormatError, match="another spelling"):
        Verifier(compressed)
    with pytest.raises(FormatError):
        Verifier(verifier.der + b"\0")


def _recover_x(y: int) -> int | None:
    """Return an x of the Edwards curve for *y*, if there is one (RFC 8032, 5.1.3)."""
    square = (y * y - 1) * pow(POINT_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return None if (x * x - square) % PRIME else x


def _double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    k = POINT_D * x * x * y * y % PRIME
    return (
        2 * x * y * pow(1 + k, -1, PRIME) % PRIME,
        (y * y + x * x) * pow(1 - k, -1, PRIME) % PRIME,
    )


SMALL = [
    0,
    1,
    PRIME - 1,
    int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
    ),
]


@pytest.mark.parametrize("y", SMALL)
def test_the_listed_points_have_small_order(y: int) -> None:
    """Eight times each listed point is the neutral element, by arithmetic of our own."""
    x = _recover_x(y)

    assert x is not None
    assert _double(_double(_double((x, y)))) == (0, 1)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [*SMALL, PRIME, PRIME + 1])
def test_points_of_small_order_are_refused(y: int, sign: int) -> None:
    """A key under which anybody can sign is no key."""
    raw = (y | sign << 255).to_bytes(32, "little")

    with pytest.raises(FormatError):
        Verifier(SPKI_ED25519 + raw)
    with pytest.raises(FormatError):
        Verifier.from_key(ed25519.Ed25519PublicKey.from_public_bytes(raw))


def test_an_ecdsa_signature_has_one_der() -> None:
    """The same numbers in longer DER are refused."""
    signer = generate()
    signature = signer.sign(b"m", purpose="statements")
    r, s = decode_dss_signature(signature)
    body = bytes([2, 0x21]) + r.to_bytes(33) + bytes([2, 0x21]) + s.to_bytes(33)
    padded = bytes([0x30, 0x81, len(body)]) + body

    assert encode_dss_signature(r, s) == signature
    for other in (padded, signature + b"\0", b"", b"\x30\x00"):
        with pytest.raises(SignatureError):
            signer.verifier.verify(other, b"m")


def test_the_empty_signature_never_verifies() -> None:
    """No scheme takes zero bytes, or zeroes, for a signature."""
    for scheme in SCHEMES:
        verifier = generate(scheme).verifier
        for signature in (b"", bytes(64), encode_dss_signature(0, 0)):
            with pytest.raises(SignatureError):
                verifier.verify(signature, b"")
