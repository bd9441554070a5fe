"""
Real counterparts on this machine: a witness, an authority, a Rekor, an S3.

Each speaks the genuine protocol.  The witness keeps its own state and checks
what the specification says; the authority is ``openssl ts``; Rekor is a log of
ours behind Rekor's API; S3 is moto's server.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from secureml.errors import ConsistencyError, SecureMLError
from secureml.evidence._files import Files
from secureml.evidence.anchors import Authority, RekorLog, TimeStampAnchor, WitnessAnchor
from secureml.evidence.anchors.rekor import RekorAnchor
from secureml.evidence.log import Log
from secureml.evidence.notes import verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import Witness, sign_cosignature
from secureml.keys import KeySigner, generate
from secureml.wire import canonical
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import COSIGNATURE, MLDSA44, Note, VKey

ORIGIN = "log.example/anchored"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@dataclass
class Anchorable:
    """A log with its key and the trust that names it."""

    log: Log
    signer: KeySigner
    directory: Path
    trust: Trust
    count: int = 0

    def grow(self, entries: int = 1) -> str:
        """Append, publish, and return the checkpoint."""
        for _ in range(entries):
            self.log.append(b"entry %d" % self.count, sync=False)
            self.count += 1
        return self.log.publish()


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[Callable[..., Anchorable]]:
    """Return a function that makes a log of some entries."""
    with contextlib.ExitStack() as stack:

        def make(
            entries: int = 5,
            *,
            name: str = "log",
            signer: KeySigner | None = None,
            origin: str = ORIGIN,
            begin: int = 0,
        ) -> Anchorable:
            key = signer or generate("ed25519", purposes={"log"})
            identity = Identity(
                name="log", verifier=key.verifier, roles=frozenset({"log"}), origin=origin
            )
            directory = tmp_path / name
            log = stack.enter_context(
                Log.open(directory, origin=origin, signer=key, create=True, files=Memory())
            )
            made = Anchorable(log, key, directory, Trust((identity,)), begin)
            made.grow(entries)
            return made

        yield make


class Server:
    """An HTTP server on this machine whose answers a function makes."""

    def __init__(self, answer: Callable[[str, bytes], tuple[int, str, bytes]]) -> None:
        outer = self
        self.requests: list[tuple[str, bytes]] = []
        self.answer = answer

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                """Answer."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, body))
                status, kind, data = outer.answer(self.path, body)
                with contextlib.suppress(OSError):  # who asked may be gone
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing."""

        self.httpd = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(
            target=self.httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        """Stop."""
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that serves answers."""
    with contextlib.ExitStack() as stack:

        def start(answer: Callable[[str, bytes], tuple[int, str, bytes]]) -> Server:
            server = Server(answer)
            stack.callback(server.close)
            return server

        yield start


@dataclass
class LoopbackWitness:
    """A C2SP witness that keeps its state in memory and checks what the page says."""

    trust: Trust
    name: str = "witness.example/w1"
    scheme: str = "ed25519"
    delay: float = 0.0
    size: int = 0
    root: bytes = sha256(b"").digest()
    signer: KeySigner = field(init=False)
    anchor: WitnessAnchor = field(init=False)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.signer = generate(self.scheme, purposes={"witness"})

    @property
    def witness(self) -> Witness:
        """Who it is."""
        kind = COSIGNATURE if self.scheme == "ed25519" else MLDSA44
        return Witness(self.name, VKey(self.name, kind, self.signer.verifier.raw))

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Answer add-checkpoint."""
        time.sleep(self.delay)
        if path != "/add-checkpoint":
            return 404, "text/plain", b"no such page\n"
        head, _, note = body.decode().partition("\n\n")
        old_line, *lines = head.split("\n")
        old = int(old_line.removeprefix("old "))
        try:
            seen = verify_checkpoint(note, trust=self.trust)
        except SecureMLError as error:
            known = Note.decode(note).text.split("\n")[0] in self.trust.logs("log")
            return (403 if known else 404), "text/plain", error.what.encode()
        if old > seen.size:
            return 400, "text/plain", b"old size above the checkpoint\n"
        if old != self.size:
            return 409, "text/x.tlog.size", b"%d\n" % self.size
        proof = ConsistencyProof(path=tuple(base64.b64decode(line) for line in lines))
        try:
            proof.verify(old_size=old, old_root=self.root, size=seen.size, root=seen.root)
        except ConsistencyError as error:
            same = old == seen.size
            return (409 if same else 422), "text/plain", error.what.encode()
        self.size, self.root = seen.size, seen.root
        line = sign_cosignature(note, self.signer, name=self.name)
        text = Note("-\n", (line,)).encode().removeprefix("-\n\n")
        return 200, "text/plain; charset=utf-8", text.encode()


@pytest.fixture
def make_witness(serve: Callable[..., Server]) -> Callable[..., LoopbackWitness]:
    """Return a function that starts a witness."""

    def make(trust: Trust, name: str = "w1", **options: Any) -> LoopbackWitness:  # noqa: ANN401
        one = LoopbackWitness(trust, name=f"witness.example/{name}", **options)
        one.server = serve(one.answer)
        one.anchor = WitnessAnchor(name=name, url=one.server.url, witness=one.witness, timeout=5.0)
        return one

    return make


CONFIG = """
[tsa]
default_tsa = t
[t]
dir = {0}
serial = {0}/serial
signer_cert = {0}/tsa.pem
signer_key = {0}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[ext]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[other]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, codeSigning
"""


def openssl(*args: str, where: Path) -> None:
    """Run openssl."""
    done = subprocess.run(
        ["openssl", *args], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@dataclass
class LoopbackAuthority:
    """An RFC 3161 authority: ``openssl ts``, behind HTTP."""

    where: Path
    authority: Authority
    anchor: TimeStampAnchor
    server: Server

    def reply(self, query: bytes) -> bytes:
        """Answer one query."""
        place = self.where / f"q{time.monotonic_ns()}"
        place.write_bytes(query)
        openssl(
            *("ts", "-reply", "-config", "tsa.cnf", "-queryfile", place.name),
            *("-out", f"{place.name}.r"),
            where=self.where,
        )
        return (self.where / f"{place.name}.r").read_bytes()


@pytest.fixture
def make_authority(
    tmp_path: Path, serve: Callable[..., Server]
) -> Callable[..., LoopbackAuthority]:
    """Return a function that starts an authority with new keys."""
    pytest.importorskip("rfc3161_client")
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")

    def make(name: str = "tsa", extension: str = "ext") -> LoopbackAuthority:
        where = tmp_path / f"authority-{name}"
        where.mkdir()
        (where / "tsa.cnf").write_text(CONFIG.format(where))
        (where / "serial").write_text("01")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(
            *("req", "-x509", *curve, "-keyout", "root.key", "-out", "root.pem"),
            *("-subj", f"/CN={name} root", "-days", "30", "-config", os.devnull),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign"),
            where=where,
        )
        openssl(
            *("req", *curve, "-keyout", "tsa.key", "-out", "tsa.csr"),
            *("-subj", f"/CN={name}", "-config", os.devnull),
            where=where,
        )
        openssl(
            *("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key"),
            *("-CAcreateserial", "-out", "tsa.pem", "-days", "30"),
            *("-extfile", "tsa.cnf", "-extensions", extension),
            where=where,
        )
        authority = Authority(name=name, roots=(where / "root.pem").read_text())
        one: LoopbackAuthority
        server = serve(lambda _, body: (200, "application/timestamp-reply", one.reply(body)))
        anchor = TimeStampAnchor(name=name, url=server.url, authority=authority)
        one = LoopbackAuthority(where, authority, anchor, server)
        return one

    return make


@dataclass
class LoopbackRekor:
    """Rekor v2's API in front of a log of ours."""

    log: Log
    known: RekorLog
    anchor: RekorAnchor
    server: Server

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Take an entry whose signature holds over its digest."""
        if path != "/api/v2/log/entries":
            return 404, "text/plain", b"no such page\n"
        asked = json.loads(body)["hashedRekordRequestV002"]
        signature = asked["signature"]
        key: Any = load_der_public_key(
            base64.b64decode(signature["verifier"]["publicKey"]["rawBytes"])
        )
        digest = base64.b64decode(asked["digest"])
        key.verify(base64.b64decode(signature["content"]), digest, ECDSA(Prehashed(SHA256())))
        data = {"algorithm": "SHA2_256", "digest": asked["digest"]}
        entry = canonical.encode(
            {
                "apiVersion": "0.0.2",
                "kind": "hashedrekord",
                "spec": {"hashedRekordV002": {"data": data, "signature": signature}},
            }
        )
        index = self.log.append(entry, sync=False)
        self.log.publish()
        proof = self.log.prove(index)
        b64 = [base64.b64encode(one).decode() for one in proof.path]
        answer = {
            "logIndex": str(index),
            "logId": {"keyId": base64.b64encode(self.known.key_id).decode()},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "integratedTime": "0",
            "inclusionPromise": None,
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": base64.b64encode(proof.head.root).decode(),
                "treeSize": str(proof.head.size),
                "hashes": b64,
                "checkpoint": {"envelope": proof.checkpoint},
            },
            "canonicalizedBody": base64.b64encode(entry).decode(),
        }
        return 201, "application/json", json.dumps(answer).encode()


@pytest.fixture
def make_rekor(
    tmp_path: Path, serve: Callable[..., Server]
) -> Iterator[Callable[..., LoopbackRekor]]:
    """Return a function that starts a Rekor with some entries of others."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "rekor", entries: int = 3) -> LoopbackRekor:
            signer = generate("ed25519", purposes={"log"})
            origin = f"{name}.example"
            log = stack.enter_context(
                Log.open(
                    tmp_path / f"of-{name}",
                    origin=origin,
                    signer=signer,
                    create=True,
                    files=Memory(),
                )
            )
            for n in range(entries):
                log.append(b"somebody else's %d" % n, sync=False)
            log.publish()
            known = RekorLog(origin=origin, verifier=signer.verifier)
            one: LoopbackRekor
            server = serve(lambda path, body: one.answer(path, body))  # noqa: PLW0108  not yet
            anchor = RekorAnchor(name=name, url=server.url, log=known)
            one = LoopbackRekor(log, known, anchor, server)
            return one

        yield make


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Start moto's server, and return its address."""
    pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server")
    one = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    one.start()
    host, port = one.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        one.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """Return a client, and a bucket with Object Lock."""
    import boto3

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id="of-no-account",
        aws_secret_access_key="of-no-account",  # noqa: S106  moto asks for one
    )
    name = f"bucket-{time.monotonic_ns()}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return client, name
