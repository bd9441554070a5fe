"""What evidence costs: appends, verification, signing, against plain work."""

import hashlib
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from secureml import keys, models
from secureml.evidence.log import Log, verify_log
from secureml.evidence.trust import Identity, Trust
from secureml.wire.merkle import leaf_hash, root

__all__ = ["rows"]

TURNS = 3
ENTRIES = 20_000
FILES = 1_000


def rows(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure, and return one row per comparison."""
    del quick  # It takes seconds.
    with tempfile.TemporaryDirectory() as scratch:
        return [*_log(Path(scratch)), *_models(Path(scratch))]


def _log(scratch: Path) -> list[dict[str, object]]:
    entry = b"x" * 900
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    identity = Identity(
        name="log", verifier=signer.verifier, roles=frozenset({"log"}), origin="bench.example/log"
    )

    def append(where: Path) -> None:
        with Log.open(where, origin="bench.example/log", signer=signer, create=True) as log:
            for number in range(ENTRIES):
                log.append(entry + number.to_bytes(4), sync=False)

    def plain(where: Path) -> None:
        with where.with_suffix(".txt").open("ab", buffering=0) as file:
            for number in range(ENTRIES):
                data = entry + number.to_bytes(4)
                hashlib.sha256(data).digest()
                file.write(data)

    def verify() -> None:
        verify_log(scratch / "log0", trust=Trust((identity,)), role="log")

    def merkle() -> None:
        root([leaf_hash(entry + n.to_bytes(4)) for n in range(ENTRIES)])

    return [
        _row(
            "append to the log, published",
            _each(lambda n: append(scratch / f"log{n}"), ENTRIES),
            _each(lambda n: plain(scratch / f"plain{n}"), ENTRIES),
            "900 bytes; peer hashes each entry and writes it to a file",
        ),
        _row(
            "verify a log, every tile rebuilt",
            _each(lambda _: verify(), ENTRIES),
            _each(lambda _: merkle(), ENTRIES),
            f"{ENTRIES:,} entries; peer is the RFC 6962 root from entries in memory",
        ),
    ]


def _models(scratch: Path) -> list[dict[str, object]]:
    folder = scratch / "model"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:05}.bin").write_bytes(number.to_bytes(4) * 1_024)
    key = keys.generate()
    signature = scratch / "model.sig"

    def plain() -> None:
        for path in sorted(folder.iterdir()):
            hashlib.sha256(path.read_bytes()).digest()

    def sign() -> None:
        models.sign_model(folder, key=key, signature=signature)

    def verify() -> None:
        models.verify_model(folder, signature=signature, key=key.verifier)

    loop = _each(lambda _: plain(), 1)
    found = [
        _row("sign a model", _each(lambda _: sign(), 1), loop, f"{FILES:,} files of 4 KiB; loop"),
        _row("verify a model", _each(lambda _: verify(), 1), loop, "the same files; peer: loop"),
    ]
    if importlib.util.find_spec("model_signing") and importlib.util.find_spec("OpenSSL"):
        found.append(_peer_signing(folder, scratch, _each(lambda _: sign(), 1)))
    return found


def _peer_signing(folder: Path, scratch: Path, ours: float) -> dict[str, object]:
    """Compare with model-signing, where its extra and pyOpenSSL are installed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import signing

    key = scratch / "peer.pem"
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    theirs = _each(lambda _: config.sign(folder, scratch / "peer.sig"), 1)
    return _row("sign a model, against model-signing", ours, theirs, f"{FILES:,} files of 4 KiB")


def _each(work: Callable[[int], object], count: int) -> float:
    """Return the least CPU time of some turns of *work*, in µs for each of *count* things."""
    times: list[float] = []
    for turn in range(TURNS):
        began = time.process_time()
        work(turn)
        times.append(time.process_time() - began)
    return min(times) * 1e6 / count


def _row(name: str, ours: float, peer: float, note: str) -> dict[str, object]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / max(peer, 1e-9),
        "unit": "µs",
        "note": note,
    }
