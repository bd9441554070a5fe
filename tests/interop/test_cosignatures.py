"""
Second signatures and cosignatures, beside tools that share no code with ours.

aics-tlog makes and checks Ed25519 cosignatures; the packages ``sumdb/note``
and ``crypto/mldsa`` of the Go toolchain open our notes and make an ML-DSA-44
line that we verify.  See ``test_log_aics.py`` and ``test_log_go.py`` for
``SECUREML_PY312`` and ``SECUREML_GO``.
"""

import json
import os
import shutil
import subprocess
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from secureml import keys
from secureml.evidence.notes import add_signatures, sign_checkpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import Witness, sign_cosignature, verify_cosignatures
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import COSIGNATURE, ED25519, MLDSA44, NoteSignature, VKey

ORIGIN = "log.example/interop"
CHECKPOINT = Checkpoint(ORIGIN, 20_852_163, bytes(range(32)))
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
PYTHON = os.environ.get("SECUREML_PY312", "")
GO = os.environ.get("SECUREML_GO", "")

THEIRS = """
import json, sys
from aics_tlog import (WitnessPolicy, parse_note, parse_vkey, parse_checkpoint, verify_checkpoint,
                       sign_cosignature, cosignature_vkey, format_vkey)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
asked = json.load(sys.stdin)
note = parse_note(asked["note"])
witnesses = [parse_vkey(one) for one in asked["witnesses"]]
judged = verify_checkpoint(note, parse_vkey(asked["vkey"]), expected_origin=asked["origin"],
                           witness_keys=witnesses, quorum=len(witnesses))
head = parse_checkpoint(note.text)
key = Ed25519PrivateKey.generate()
_, line = sign_cosignature(key, "theirs.example", asked["at"], head.origin, head.size, head.root)
print(json.dumps({"ok": judged.ok, "count": judged.cosignature_count,
                  "times": judged.timestamps,
                  "vkey": format_vkey(cosignature_vkey("theirs.example", key.public_key())),
                  "key_id": line.key_id.hex(), "signature": line.signature.hex()}))
"""

PROGRAM = """
package main

import (
	"bytes"
	"crypto/mldsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"interop/note"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// message is the cosigned_message of c2sp.org/tlog-cosignature.
func message(name, text string, timestamp uint64) []byte {
	lines := strings.Split(text, "\\n")
	size, err := strconv.ParseUint(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	var b bytes.Buffer
	b.WriteString("subtree/v1\\n\\x00")
	b.WriteByte(byte(len(name)))
	b.WriteString(name)
	binary.Write(&b, binary.BigEndian, timestamp)
	b.WriteByte(byte(len(lines[0])))
	b.WriteString(lines[0])
	binary.Write(&b, binary.BigEndian, uint64(0))
	binary.Write(&b, binary.BigEndian, size)
	b.Write(root)
	return b.Bytes()
}

type verifier struct {
	name string
	hash uint32
	key  *mldsa.PublicKey
}

func (v verifier) Name() string    { return v.name }
func (v verifier) KeyHash() uint32 { return v.hash }
func (v verifier) Verify(msg, sig []byte) bool {
	if len(sig) < 8 {
		return false
	}
	signed := message(v.name, string(msg), binary.BigEndian.Uint64(sig))
	return mldsa.Verify(v.key, signed, sig[8:], nil) == nil
}

func main() {
	var asked struct {
		Note, VKey, Name string
		Hash             uint32
		Second, Seed     []byte
		At               uint64
	}
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	first, err := note.NewVerifier(asked.VKey)
	must(err)
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), asked.Second)
	must(err)
	second := verifier{asked.Name, asked.Hash, key}
	opened, err := note.Open([]byte(asked.Note), note.VerifierList(first, second))
	must(err)
	private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), asked.Seed)
	must(err)
	name := "witness.example/go"
	signature, err := private.Sign(nil, message(name, opened.Text, asked.At), &mldsa.Options{})
	must(err)
	stamped := binary.BigEndian.AppendUint64(nil, asked.At)
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"verified":   len(opened.Sigs),
		"unverified": len(opened.UnverifiedSigs),
		"public":     private.PublicKey().Bytes(),
		"signature":  append(stamped, signature...),
	}))
}
"""


def logs() -> tuple[keys.KeySigner, keys.KeySigner, str]:
    """Return the two keys of a log, and a checkpoint that both signed."""
    first, second = (keys.generate(one, purposes={"log"}) for one in ("ed25519", "mldsa-44"))
    return first, second, sign_checkpoint(CHECKPOINT, first, also=[second])


def test_aics_counts_our_witnesses_and_we_count_theirs() -> None:
    """Cosignatures of either side verify on the other, under a note with two lines of its log."""
    if not PYTHON:
        pytest.skip("SECUREML_PY312 names no interpreter with aics-tlog")
    first, second, note = logs()
    witnesses = [keys.generate("ed25519", purposes={"witness"}) for _ in range(2)]
    names = [f"witness.example/w{n}" for n in range(2)]
    lines = [
        sign_cosignature(note, signer, name=name, at=AT)
        for signer, name in zip(witnesses, names, strict=True)
    ]
    quantum = keys.generate("mldsa-44", purposes={"witness"})
    lines.append(sign_cosignature(note, quantum, name="witness.example/pq", at=AT))
    vkeys = [
        VKey(name, COSIGNATURE, one.verifier.raw)
        for one, name in zip(witnesses, names, strict=True)
    ]
    asked = {
        "note": add_signatures(note, lines),
        "vkey": VKey(ORIGIN, ED25519, first.verifier.raw).encode(),
        "origin": ORIGIN,
        "witnesses": [one.encode() for one in vkeys],
        "at": int(AT.timestamp()),
    }

    done = subprocess.run(
        [PYTHON, "-c", THEIRS],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)

    assert (True, 2) == (said["ok"], said["count"])
    assert dict.fromkeys(names, asked["at"]) == said["times"]
    theirs = VKey.decode(said["vkey"])
    line = NoteSignature(
        theirs.name, bytes.fromhex(said["key_id"]), bytes.fromhex(said["signature"])
    )
    trusted = [
        Witness("theirs", theirs),
        Witness("pq", VKey("witness.example/pq", MLDSA44, quantum.verifier.raw)),
    ]
    found = verify_cosignatures(add_signatures(note, [*lines, line]), trusted, 2, at=AT)
    assert [AT, AT] == [one.at for one in found.cosignatures]
    assert second.verifier.scheme == "mldsa-44"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program from what the toolchain brings along."""
    if not GO:
        pytest.skip("SECUREML_GO names no Go toolchain")
    base = tmp_path_factory.mktemp("go")
    environment = os.environ | {
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(base / "cache"),
        "GOPATH": str(base / "path"),
    }
    asked = subprocess.run([GO, "env", "GOROOT"], capture_output=True, text=True, check=True)
    goroot = Path(asked.stdout.strip())
    if not (goroot / "src/crypto/mldsa").is_dir():
        pytest.skip("this Go has no crypto/mldsa")
    source = base / "source"
    vendored = goroot / "src/cmd/vendor/golang.org/x/mod/sumdb/note"
    shutil.copytree(vendored, source / "note")
    (source / "go.mod").write_text("module interop\n\ngo 1.22\n")
    (source / "main.go").write_text(PROGRAM)
    built = base / "open"
    done = subprocess.run(
        [GO, "build", "-o", str(built), "."],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return built


def test_go_opens_notes_with_both_lines(program: Path) -> None:
    """Go's note takes both lines as good and the witness's as unknown; we verify Go's ML-DSA."""
    first, second, note = logs()
    witness = keys.generate("ed25519", purposes={"witness"})
    line = sign_cosignature(note, witness, name="witness.example/w0", at=AT)
    second_key = VKey(ORIGIN, MLDSA44, second.verifier.raw)
    asked = {
        "Note": add_signatures(note, [line]),
        "VKey": VKey(ORIGIN, ED25519, first.verifier.raw).encode(),
        "Name": ORIGIN,
        "Hash": int.from_bytes(second_key.key_id),
        "Second": b64encode(second.verifier.raw).decode(),
        "Seed": b64encode(bytes(range(32))).decode(),
        "At": int(AT.timestamp()),
    }

    def ask(**other: object) -> subprocess.CompletedProcess[str]:
        given = json.dumps({**asked, **other})
        return subprocess.run([program], input=given, capture_output=True, text=True, check=False)

    good = ask()
    assert good.returncode == 0, good.stderr
    said = json.loads(good.stdout)
    assert (2, 1) == (said["verified"], said["unverified"])
    altered = str(asked["Note"]).replace("\n20852163\n", "\n20852164\n")
    assert ask(Note=altered).returncode == 1

    vkey = VKey("witness.example/go", MLDSA44, b64decode(said["public"]))
    theirs = NoteSignature(vkey.name, vkey.key_id, b64decode(said["signature"]))
    found = verify_cosignatures(add_signatures(note, [theirs]), [Witness("go", vkey)], 1, at=AT)
    assert ("go",) == found.names
    trust = Trust(
        tuple(
            Identity(
                name=one.verifier.scheme,
                verifier=one.verifier,
                roles=frozenset({"log"}),
                origin=ORIGIN,
            )
            for one in (first, second)
        )
    )
    assert verify_checkpoint(str(asked["Note"]), trust=trust).also
