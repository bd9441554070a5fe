"""
Other people's verifiers of logs: Go's checksum database, and aics-tlog.

Each is one process that answers questions, a JSON object a line: is the log in this directory,
under this key, what its checkpoint says?  Where they are not named, their tests are skipped.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GO = os.environ.get("SECUREML_GO", "")
PYTHON = os.environ.get("SECUREML_PY312", "")

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
		panic(err)
	}
}

type question struct {
	Log, VKey, Origin string
	Older             []struct {
		Size int64
		Root string
	}
}

type answer struct {
	Ok    bool
	Size  int64
	Root  string
	Error string
}

func main() {
	questions := json.NewDecoder(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		var asked question
		if questions.Decode(&asked) != nil {
			return
		}
		answers.Encode(judge(asked))
	}
}

func judge(asked question) (found answer) {
	defer func() {
		if why := recover(); why != nil {
			found = answer{Error: fmt.Sprint(why)}
		}
	}()
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
	if entries != size {
		must(fmt.Errorf("%d entries for %d", entries, size))
	}
	return answer{Ok: true, Size: size, Root: lines[2]}
}
"""

THEIRS = """
import json, sys
from pathlib import Path
from aics_tlog import (FileSystemTileReader, audit_tiles, parse_checkpoint, parse_note,
                       parse_vkey, verify_checkpoint, verify_consistency,
                       consistency_proof_from_tiles)

def judge(asked):
    note = parse_note(Path(asked["Log"], "checkpoint").read_bytes())
    judged = verify_checkpoint(note, parse_vkey(asked["VKey"]), expected_origin=asked["Origin"])
    if not judged.ok:
        raise ValueError(str(judged))
    head = parse_checkpoint(note.text)
    reader = FileSystemTileReader(asked["Log"])
    audit_tiles(reader, head.size, head.root)
    return {"Ok": True, "Size": head.size, "Root": head.root.hex()}

for line in sys.stdin:
    try:
        found = judge(json.loads(line))
    except Exception as error:
        found = {"Ok": False, "Error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
"""


class Peer:
    """A verifier that is not ours."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, **question: object) -> dict[str, Any]:
        """Return what it answers."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


def running(command: list[str]) -> Iterator[Peer]:
    """Start a verifier, and end it when it is needed no more."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Peer(process)
        assert process.stdin
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Build and start a verifier from the packages that every Go toolchain brings along."""
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
    yield from running([str(built)])


@pytest.fixture(scope="session")
def aics() -> Iterator[Peer]:
    """Start a verifier that is built on aics-tlog."""
    can = (
        PYTHON
        and not subprocess.run(
            [PYTHON, "-c", "import aics_tlog"], capture_output=True, check=False
        ).returncode
    )
    if not can:
        pytest.skip("SECUREML_PY312 names no Python with aics-tlog")
    yield from running([PYTHON, "-c", THEIRS])
