#!/usr/bin/env python3
"""
Verify a transparency log or an audit log: one file, nothing but Python 3.9 or later.

    python verify_log.py DIR --key VKEY [--remembered NOTE]... [--epochs NOTES] [--json]
    python verify_log.py --proof FILE --entry FILE --key VKEY [--json]

Nothing in DIR is believed.  Every entry is hashed again, the whole tree is built from the
entries, each file must be byte for byte what they make it, and the checkpoint must carry a
signature by VKEY, which you hold from somewhere else.  For an audit log, what the records say
about their own completeness is checked too.  A log alone cannot show that it was rolled back:
give --remembered a checkpoint that was kept elsewhere, or read "rollback: not checkable".

Exit code: 0 it holds, 1 it is refused, 2 wrong usage, 3 it could not be told.

Formats: C2SP signed-note, tlog-checkpoint, tlog-tiles, tlog-proof, tlog-cosignature; RFC 6962;
RFC 8032 (verification only: no secret ever comes near this file); secureml-audit/1.
Not checked, and named where it is met: ML-DSA signatures, and the values beside the log.
"""

# ruff: noqa: ANN401, B905, EXE001, FURB162, N818, PLR2004, PTH112, PTH118, PTH123, PTH208, RUF007
# One file that runs on Python 3.9 and reads any JSON; its numbers are those of the formats.
from __future__ import annotations

import argparse
import binascii
import functools
import hashlib
import json
import os
import re
import stat
import sys
import time
from array import array
from collections import deque
from datetime import datetime
from hashlib import sha256
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035  as above

WIDTH, MAX_NOTE, MAX_ENTRY, MAX_SAFE = 256, 1_000_000, 65_535, 2**53 - 1
WAIT, TRIES = 0.05, 12  # seconds to wait for a writer, and how often
KEPT, LEFT = 1_000, 100_000  # findings that are shown; tiles left over that are looked at


class Refused(Exception):
    """It does not hold; the keywords say where: ``entry``, ``file``."""

    verdict = "refused"

    def __init__(self, what: str, **where: Any) -> None:
        super().__init__(what)
        self.where = where


class Moving(Refused):
    """It does not hold, and a writer at work may be why: look again."""


class Unknown(Refused):
    """The system would not let us look."""

    verdict = "unknown"


class Usage(Refused):
    """The command makes no sense."""

    verdict = "usage"


# --- Ed25519, RFC 8032 section 5.1.7: cofactorless, canonical encodings only ------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]  # extended coordinates: x = X/Z, y = Y/Z, T = XY/Z


def add(a: Point, b: Point) -> Point:
    """Add two points of the curve; the formulas have no exceptions."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    t, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, z - t, z + t, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode_point(data: bytes) -> Point | None:
    """Return the point that has this one encoding; None for any other 32 bytes."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE: Point = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))  # type: ignore[assignment]


def small_order(point: Point) -> bool:
    """Return whether anybody can sign for this point: eight times it is nothing."""
    for _ in range(3):
        point = add(point, point)
    return point[0] == 0 and point[1] == point[2]


@functools.lru_cache(maxsize=64)
def ed25519_verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether *key*, 32 bytes, signed *message*: R is what S·B − k·A encodes to."""
    point = decode_point(key) if len(key) == 32 else None
    s = int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    minus = P - point[0], point[1], 1, P - point[3]
    table, total = (None, BASE, minus, add(BASE, minus)), (0, 1, 1, 0)
    for bit in range(252, -1, -1):
        total = add(total, total)
        summand = table[(s >> bit & 1) + 2 * (k >> bit & 1)]
        total = add(total, summand) if summand else total
    inverse = pow(total[2], P - 2, P)
    x, y = total[0] * inverse % P, total[1] * inverse % P
    return (y + ((x & 1) << 255)).to_bytes(32, "little") == signature[:32]


# --- Keys, notes, checkpoints ------------------------------------------------------------------


def b64(text: str) -> bytes:
    """Read base 64 in its one spelling."""
    try:
        data = binascii.a2b_base64(text)
    except ValueError:
        data = b""
    if binascii.b2a_base64(data, newline=False).decode() != text:
        raise Refused(f"{text[:60]!a} is not base 64 in its one spelling")
    return data


def decimal(text: str) -> int:
    """Read a number below 2**63 in its one spelling."""
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) and int(text) < 1 << 63:
        return int(text)
    raise Refused(f"{text[:40]!a} is not a decimal number below 2**63")


class Key:
    """A verifier key ``name+id+base64``: type 1 is a log's Ed25519 key, type 4 a witness's."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.strip().partition("+")
        named, _, encoded = rest.partition("+")
        data = b64(encoded)
        self.kind, self.public = data[:1], data[1:]
        self.id = sha256(self.name.encode() + b"\n" + data).digest()[:4]
        point = decode_point(self.public) if len(self.public) == 32 else None
        if not self.name or self.id.hex() != named or self.kind not in {b"\1", b"\4"}:
            raise Refused(f"{text[:80]!a} is no Ed25519 key of the form name+id+base64")
        if point is None or small_order(point):
            raise Refused(f"{text[:80]!a} is no key: anybody can sign for it, or nobody")


class Head:
    """
    A checkpoint that one of *keys* signed.

    In the directory of a log *strict* holds: one signature, by the log.  Elsewhere signatures by
    others are left alone, as the format asks; those that name one of our keys must be good.
    """

    def __init__(self, data: bytes, keys: list[Key], *, strict: bool = False) -> None:
        try:
            note = data.decode()
        except UnicodeDecodeError:
            raise Refused("the checkpoint is not UTF-8") from None
        text, empty, tail = note.rpartition("\n\n")
        text += "\n"
        lines = tail[:-1].split("\n")
        if not empty or not tail.endswith("\n") or len(data) > MAX_NOTE or len(lines) > 100:
            raise Refused("the checkpoint is no note with 1 to 100 signatures under it")
        if re.search(r"[\x00-\x09\x0b-\x1f]", text):
            raise Refused("the checkpoint has control characters")
        fields = text[:-1].split("\n")
        if len(fields) < 3 or "" in fields:
            raise Refused("the checkpoint has not three lines: origin, size and root")
        self.origin, self.size, self.root = fields[0], decimal(fields[1]), b64(fields[2])
        if len(self.root) != 32:
            raise Refused("the root in the checkpoint has not 32 bytes")
        self.signer, self.witnessed, self.unchecked = "", "", list[str]()
        self.key: Key | None = None
        seen = set()
        for line in lines:
            dash, name, encoded = ([*line.split(" "), "", ""])[:3]
            blob = b64(encoded)
            if dash != "\u2014" or line.count(" ") != 2 or re.search(r"[\s+\x00-\x1f]", name):
                raise Refused("a signature line is not a dash, a name and base 64")
            if not name or len(blob) < 5 or (name, blob[:4]) in seen:
                raise Refused("a signature is empty, or there twice")
            seen.add((name, blob[:4]))
            self._judge(name, blob, text, [k for k in keys if (k.name, k.id) == (name, blob[:4])])
        if not self.signer:
            raise Refused(f"the checkpoint of {self.origin!a} is signed by no key that was given")
        beside = [one for one in self.unchecked if one != f"{self.origin} (ML-DSA-44)"]
        if strict and (beside or len(lines) - len(self.unchecked) != 1 or len(lines) > 2):
            raise Refused("the checkpoint has more under it than the signature of its log")

    def report(self, *others: Head) -> dict[str, Any]:
        """Return what is said about this checkpoint, and about others that were given with it."""
        everything = (self, *others)
        return {
            "origin": self.origin,
            "size": self.size,
            "root": self.root.hex(),
            "signer": self.signer,
            "witnessed": max(one.witnessed for one in everything)
            or "by nobody whose key was given",
            "not_checked": sorted({name for one in everything for name in one.unchecked}),
        }

    def _judge(self, name: str, blob: bytes, text: str, named: list[Key]) -> None:
        for key in named:  # two keys may share an id; then one of them has to fit
            if key.kind == b"\1" and ed25519_verify(key.public, blob[4:], text.encode()):
                if name == self.origin:
                    self.signer, self.key = f"{name}+{key.id.hex()}", key
                return
            at = int.from_bytes(blob[4:12], "big")
            said = f"cosignature/v1\ntime {at}\n{text}".encode()
            if key.kind == b"\4" and ed25519_verify(key.public, blob[12:], said) and at < 1 << 37:
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
                self.witnessed = max(self.witnessed, f"{when} by {name}")
                return
        if named:
            raise Refused(f"the signature by {name!a} is bad: it or the checkpoint was altered")
        scheme = "ML-DSA-44" if len(blob) in {2424, 2432} else "unknown key"
        self.unchecked.append(f"{name} ({scheme})")


# --- The files of a log ------------------------------------------------------------------------

FILE = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)
FOLDER = re.compile(r"tile/(?:(?:entries|[0-9]{1,2})/(?:x[0-9]{3}/){0,6}(?:[0-9]{3}\.p/)?)?")


def place(kind: str, number: int, width: int) -> str:
    """Return the one path of a tile, or of a bundle when *kind* is ``entries``."""
    path = f"{number % 1000:03}"
    while number := number // 1000:
        path = f"x{number % 1000:03}/{path}"
    return f"tile/{kind}/{path}" + (f".p/{width}" if width < WIDTH else "")


def width_of(size: int, level: int, number: int) -> int:
    """Return how many hashes a tile has in a tree of *size*; 0 or less when there is none."""
    return min(WIDTH, (size >> 8 * level) - number * WIDTH)


def split(data: bytes, width: int) -> tuple[list[bytes], list[int]]:
    """Return up to *width* entries of a bundle, and where each ends; from 0."""
    entries: list[bytes] = []
    ends, at = [0], 0
    while len(entries) < width and at + 1 < len(data):
        start = at + 2
        at = start + (data[at] << 8 | data[at + 1])
        entries.append(data[start:at])
        ends.append(at)
    return entries, ends


class Directory:
    """A log on the disk, read once, never through a link and never more than its format allows."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.partial: dict[str, bytes] = {}
        self.stale: dict[tuple[str, int], list[int]] = {}

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a regular file."""
        if name in self.partial:
            return self.partial[name]
        flags = os.O_RDONLY
        for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, flag, 0)
        path = os.path.join(self.base, name)
        try:
            fd = os.open(path, flags)
        except FileNotFoundError:
            raise Moving(f"{name!a} is missing: the checkpoint covers it", file=name) from None
        except OSError as error:
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                raise Refused(f"{name!a} is not a regular file", file=name) from None
            raise Unknown(f"{name!a} cannot be read: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refused(f"{name!a} is not a regular file", file=name)
            with open(fd, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise Unknown(f"{name!a} cannot be read: {error.strerror}") from None
        finally:
            os.close(fd)
        if len(data) > limit:
            raise Refused(f"{name!a} is longer than its format allows", file=name)
        return data

    def peek(self, number: int, width: int) -> list[bytes]:
        """Return the first *width* entries of a bundle; nothing is known of them yet."""
        full = place("entries", number, WIDTH)
        try:
            return split(self.read(full, WIDTH * (MAX_ENTRY + 2)), width)[0]
        except Moving:
            pass
        try:
            widths = [int(one) for one in os.listdir(os.path.join(self.base, full + ".p"))]
            data = self.read(f"{full}.p/{max(widths)}", WIDTH * (MAX_ENTRY + 2))
        except (OSError, ValueError, Moving):  # pruned, or the log will be refused for it
            return []
        return split(data, width)[0]

    def look(self, keys: list[Key]) -> Head:
        """Take the checkpoint, the list of files and the partial tiles at one moment."""
        left = TRIES
        while True:
            self.partial, self.stale = {}, {}
            try:
                head = self._checkpoint(keys)
                self._walk("", head.size)
                for level in range((head.size.bit_length() + 7) // 8):
                    number, width = divmod(head.size >> 8 * level, WIDTH)
                    for kind in (str(level), "entries")[: 2 - min(level, 1)] if width else ():
                        name = place(kind, number, width)
                        self.partial[name] = self.read(name, width * (MAX_ENTRY + 2))
            except Moving:
                left -= 1
                if not left:
                    raise
                time.sleep(WAIT)
            else:
                return head

    def _checkpoint(self, keys: list[Key]) -> Head:
        try:
            note = self.read("checkpoint", MAX_NOTE)
        except Moving:
            if os.path.isdir(os.path.join(self.base, "tile")):
                raise Refused("the log has tiles and no checkpoint", file="checkpoint") from None
            raise Unknown(f"there is no log in {self.base!a}: no file 'checkpoint'") from None
        try:
            return Head(note, keys, strict=True)
        except Refused as error:
            raise Refused(str(error), file="checkpoint") from None

    def _walk(self, here: str, size: int) -> None:
        """Account for every file: covered by the checkpoint, or a partial tile since replaced."""
        try:
            with os.scandir(os.path.join(self.base, here)) as scan:
                empty = bool(here)
                for one in scan:
                    name, empty = here + one.name, False
                    mode = one.stat(follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode) and FOLDER.fullmatch(name + "/"):
                        self._walk(name + "/", size)
                    elif stat.S_ISREG(mode) and (
                        name == "checkpoint" or self._covered(name, size)
                    ):
                        continue
                    elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                        raise Moving(f"{name!a} does not belong to the log", file=name)
                    else:
                        raise Refused(f"{name!a} is not a regular file", file=name)
        except FileNotFoundError:
            raise Moving(f"{here!a} went away", file=here) from None
        except OSError as error:
            raise Unknown(f"{here or self.base!a} cannot be listed: {error.strerror}") from None
        if empty:
            raise Moving(f"{here!a} is a directory without files", file=here)

    def _covered(self, name: str, size: int) -> bool:
        match = FILE.fullmatch(name)
        if not match or len(name) > 80:
            return False
        kind, path, partial = match.groups()
        level, number = 0 if kind == "entries" else int(kind), int(re.sub("[x/]", "", path))
        width, full = int(partial or WIDTH), width_of(size, level, number)
        if level > 63 or width > full or place(kind, number, width) != name or partial == "256":
            return False
        if len(self.stale) > LEFT:
            raise Unknown("there are more tiles left over than any writer leaves")
        if width < full:
            self.stale.setdefault((kind, number), []).append(width)
        return True


# --- The tree, RFC 6962 section 2.1 ------------------------------------------------------------


def top(hashes: list[bytes]) -> bytes:
    """Return the root over a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [sha256(b"\1" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2])]
    return hashes[0]


def root_of(edges: list[list[bytes]]) -> bytes:
    """Return the root over the right edge of a tree: what each level has not handed upwards."""
    root = b""
    for edge in edges:
        end = len(edge)
        while end:
            peak = top(edge[end - (end & -end) : end])
            root = sha256(b"\1" + peak + root).digest() if root else peak
            end -= end & -end
    return root or sha256(b"").digest()


class Tree:
    """The tree that the entries make, compared with every tile; it keeps only its right edge."""

    def __init__(self, log: Directory, head: Head) -> None:
        self.log, self.head = log, head
        self.edges: list[list[bytes]] = [[]]
        self.wrong: dict[
            int, tuple[int, int]
        ] = {}  # level → tile and hash of the first difference
        self.tiles = 0
        self.absent: list[int] = []  # bundles that were pruned, if an entry says so

    def _stored(self, kind: str, number: int) -> bytes:
        width = width_of(self.head.size, int(kind), number)
        name = place(kind, number, width)
        data = self.log.read(name, WIDTH * 32)
        if len(data) != width * 32:
            raise Refused(f"{name!a} was changed: it has another length", file=name)
        return data

    def _leftover(self, kind: str, number: int, data: bytes, ends: list[int]) -> None:
        for width in self.log.stale.pop((kind, number), ()):
            name = place(kind, number, width)
            try:
                same = self.log.read(name, len(data)) == data[: ends[width]]
            except Moving:  # a writer has removed it since
                continue
            if not same:
                raise Refused(f"{name!a} was changed: the fuller one begins otherwise", file=name)

    def _compare(self, level: int, number: int) -> None:
        data, stored = b"".join(self.edges[level]), self._stored(str(level), number)
        self.tiles += 1
        if data == stored:
            self._leftover(str(level), number, data, list(range(0, 8193, 32)))
        elif level not in self.wrong:
            first = next(at for at in range(len(data)) if data[at] != stored[at])
            self.wrong[level] = number, first // 32

    def bundle(self, number: int) -> list[bytes]:
        """Return the entries of a bundle; hash them into the lowest edge, compare its tile."""
        width = width_of(self.head.size, 0, number)
        name = place("entries", number, width)
        try:
            data = self.log.read(name, width * (MAX_ENTRY + 2))
        except Moving:
            hashes = self._stored("0", number)
            self.edges[0] = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
            self.absent.append(number)
            return []
        entries, ends = split(data, width)
        at = ends[-1]
        self.edges[0] = [sha256(b"\0" + entry).digest() for entry in entries]
        if at != len(data) or len(entries) != width:
            # The tile tells which entry was the first to change; one cut off is no entry.
            stored, whole, bad = self._stored("0", number), len(entries) - (at > len(data)), 0
            while bad < whole and self.edges[0][bad] == stored[32 * bad : 32 * bad + 32]:
                bad += 1
            where = {"entry": number * WIDTH + bad} if bad < width else {}
            what = f"{name!a} was changed: it is no bundle of {width} entries"
            raise Refused(what, file=name, **where)
        self._compare(0, number)
        if 0 not in self.wrong:
            self._leftover("entries", number, data, ends)
        return entries

    def _carry(self, number: int, *, check: bool) -> None:
        """Move the roots of full tiles one level up, after bundle *number*."""
        level = 0
        while len(self.edges[level]) == WIDTH:
            if level and check:
                self._compare(level, number >> 8 * level)
            self.edges += [[]] if level + 1 == len(self.edges) else []
            self.edges[level + 1].append(top(self.edges[level]))
            self.edges[level] = []
            level += 1

    def build(self, cuts: set[int], visit: Callable[[int, list[bytes]], None]) -> dict[int, bytes]:
        """Rebuild the log; return the roots of the prefixes of the sizes in *cuts*."""
        roots = {0: root_of([])}
        for number in range((self.head.size + WIDTH - 1) // WIDTH):
            first = number * WIDTH
            entries = self.bundle(number)
            if entries:
                visit(first, entries)
            for cut in cuts:
                if first < cut <= first + len(self.edges[0]):
                    roots[cut] = root_of([self.edges[0][: cut - first], *self.edges[1:]])
            self._carry(number, check=True)
        for level in range(1, len(self.edges)):
            if self.edges[level]:
                self._compare(level, self.head.size >> 8 * (level + 1))
        root = root_of(self.edges)
        if self.wrong or root != self.head.root:
            raise self._blame(root)
        return roots

    def _blame(self, root: bytes) -> Refused:
        """Say which of entry and tile was changed: the one that does not lead to the root."""
        size = self.head.size
        if not self.wrong:
            what = "entries and tiles agree, and are not those of the signed checkpoint"
            return Refused(what, file="checkpoint")
        level = min(self.wrong)
        number, position = self.wrong[level]
        tile = place(str(level), number, width_of(size, level, number))
        if root == self.head.root:
            return Refused(f"{tile!a} was changed, at hash {position}", file=tile)
        low = (number * WIDTH + position) << 8 * level
        high = min(size, low + (1 << 8 * level)) - 1
        bundle = place("entries", low // WIDTH, width_of(size, 0, low // WIDTH))
        self.edges = [[]]
        for at in range((size + WIDTH - 1) // WIDTH):
            data = self._stored("0", at)
            self.edges[0] = [data[i : i + 32] for i in range(0, len(data), 32)]
            self._carry(at, check=False)
        also = "" if level or root_of(self.edges) == self.head.root else ", and so was more"
        which = f"entry {low}" if low == high else f"one of the entries {low} to {high}"
        return Refused(f"{which}, in {bundle!a}, was changed{also}", file=bundle, entry=low)


# --- Audit records, secureml-audit/1 -----------------------------------------------------------

MAGIC = b"secureml-audit/1 "
TOLD = (b'"type":"prune"}', b'"type":"epoch"}')  # what is read even when records are not
PREFIX = re.compile(rb"secureml-audit/1 ([0-9a-f]{32}) ([0-7][0-9a-f]{15})\n")
WORDS = {  # what text has to look like
    "t128": r"(?s:.{1,128})",
    "t512": r"(?s:.{1,512})",
    "word": r"(?=.{1,32}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*",
    "segment": r"[a-z0-9][a-z0-9-]{0,62}",
    "key": r"[a-z][a-z0-9_]*",  # the name of a field
    "path": r"[^\x00-\x1f\x7f]{1,256}",
    "id": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "h16": r"[0-9a-f]{16}",
    "h32": r"[0-9a-f]{32}",
    "h64": r"[0-9a-f]{64}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
    "digest": r"(?:sha256|blake3|dirHash|tableDigest1):[0-9a-f]{64}|sha384:[0-9a-f]{96}"
    r"|(?:sha512|blake2b):[0-9a-f]{128}",
}
FIELDS = """
record {id!:id}; time time; type word; outcome ok|error|cancelled|timeout|abandoned|denied
action t128; request t128; retention_class t128; session t128; tenant t128
actor {id!:h32,type!:word}; call {kind!:word,name!:t512,code:digest}; review id
clock {jump_us!:int}; config {name!:t128,digest:digest}; details {segment!:segment}
disk_full {refused!:n}; end {records!:n}; heartbeat {records!:n}
in values; out values
epoch {}; prune {}; retention {}; seal {}; latency_us n; monotonic_us n; intent id; parent id
erasure {records!:[id],authority:t128,keys:[h32],reason:t128}; error {type!:t512,stage:word}
gap {dropped!:n,reason!:word,first:time,last:time}
gates [{decision:digest,name:t512,result:word}]
hold {name!:t128,state!:placed|released}; period {end:time,start:time}
model {status!:verified|unverified,claims:digest,digest:digest,evidence:[digest],name:t512,\
trust:digest,version:t128}; redactions [{count:n,path:t512,rule:word}]
oversight {action:word,at:time,reason:t128,reviewers:[h32]}
recovery {records!:n,verdict!:word,writer!:h32,discarded:n}; refdb {digest:digest,name:t512}
source {address:t128,host:t128}; start {boot:t128,details_removed:n,heartbeat_s:n,pid:n}
stream {chunks!:n,complete!:flag,digest:digest,kept:n,ttft_us:n}; trace {span_id:h16,trace_id:h32}
target {id:t128,name:t128,type:word}
"""  # docs/spec/audit-record.md: "!" has to be there, and members that are not named may be
NEEDED = """
access action actor; call action call latency_us monotonic_us outcome; disk-full disk_full; end end
clock clock; config config; epoch epoch; erasure erasure; gap gap; heartbeat heartbeat; hold hold
human-review oversight; intent action call monotonic_us; model-load model outcome; prune prune
recovery recovery; retention retention; seal seal; start monotonic_us start
"""  # which fields a type of record has to have
SEEN = {"t128", "t512", "word", "segment", "path", "h32", "digest"}  # few values, which come again
KEY = re.compile(WORDS["key"], re.ASCII).fullmatch
Form = Callable[[Any], bool]


def form(text: str) -> Form:
    """Return the check that FIELDS describes: a word of WORDS, [list], {object} or a|b."""
    if text in BASIC:
        return BASIC[text]
    if text[0] == "[":
        each = form(text[1:-1])
        return lambda v: isinstance(v, list) and all(map(each, v))
    if text[0] == "{":
        pairs = [part.partition(":")[::2] for part in text[1:-1].split(",") if part]
        known = {name.rstrip("!"): form(rest) for name, rest in pairs}
        needed = {name[:-1] for name, _ in pairs if name.endswith("!")}
        return lambda v: type(v) is dict and needed <= v.keys() and members(v, known)
    found = re.compile(WORDS.get(text, text), re.ASCII).fullmatch
    if text in SEEN:
        found = functools.lru_cache(maxsize=1024)(found)
    return lambda v: type(v) is str and found(v) is not None


def members(value: dict[str, Any], known: dict[str, Form]) -> bool:
    """Return whether each member of *value* that is known has its form, and others a fair name."""
    for name, item in value.items():
        check = known.get(name)
        if not (check(item) if check else KEY(name)):
            return False
    return True


def lasting(value: Any) -> bool:
    """Return whether *value* is a time that the calendar has."""
    try:
        return SPELLED(value) and datetime.fromisoformat(value[:-1]) is not None
    except ValueError:
        return False


def values(value: Any) -> bool:
    """Return whether *value* is what ``in`` and ``out`` hold: commitments, by path."""
    return isinstance(value, dict) and all(
        BASIC["path"](path)
        and COMMITTED(item)
        and (item["alg"] != "hmac-sha256" or BASIC["h64"](item.get("commitment")))
        for path, item in value.items()
    )


BASIC: dict[str, Form] = {}
BASIC.update({name: form(name) for name in WORDS})
SPELLED = BASIC["time"]
BASIC.update(
    n=lambda v: type(v) is int and v >= 0,
    int=lambda v: type(v) is int,
    flag=lambda v: isinstance(v, bool),
    time=lasting,
    values=values,
)
COMMITTED = form("{alg!:word,key:h32,ref:digest}")
CHECKS = {line.split()[0]: form(line.split()[1]) for line in re.split("[;\n]", FIELDS) if line}
MUST = {line.split()[0]: line.split()[1:] for line in re.split("[;\n]", NEEDED) if line}


def _integer(digits: str) -> int:
    if len(digits) > 17 or not -MAX_SAFE <= int(digits) <= MAX_SAFE:
        raise ValueError("an integer beyond 2**53 - 1")
    return int(digits)


def _no_float(_: str) -> None:
    raise ValueError("a number with a fraction")


def _sorted(value: Any, depth: int = 0) -> Any:
    if depth == 64 and isinstance(value, (dict, list)):
        raise ValueError("nested more than 64 levels deep")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _sorted(value[key], depth + 1) for key in keys}
    return [_sorted(one, depth + 1) for one in value] if isinstance(value, list) else value


DECODE = json.JSONDecoder(
    parse_int=_integer, parse_float=_no_float, parse_constant=_no_float
).decode
SPELL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
UNSORTED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def read_body(data: bytes) -> dict[str, Any]:
    """
    Return what a record says: canonical JSON (RFC 8785), each known field in its form.

    Raises:
        ValueError: It is no record; the text says why.
    """
    try:
        body = DECODE(data.decode())
        spelled = SPELL(body)
        if not spelled.isascii() or data.count(b"{") + data.count(b"[") > 64:
            spelled = UNSORTED(_sorted(body))
    except RecursionError:
        raise ValueError("nested more than 64 levels deep") from None
    if spelled.encode() != data or not isinstance(body, dict):
        raise ValueError("it is not one JSON object in its one spelling")
    for name in ("record", "time", "type"):
        if name not in body:
            raise ValueError(f"it has no field {name!r}")
    if not members(body, CHECKS):
        bad = next(name for name in body if not members({name: body[name]}, CHECKS))
        raise ValueError(f"the field {bad[:60]!a} is not in its form")
    for name in MUST.get(body["type"], ()):
        if name not in body:
            raise ValueError(f"a record of type {body['type']!r} has no field {name!r}")
    return body


class Writer:
    """What is known of one writer so far."""

    def __init__(self, name: str) -> None:
        self.name, self.short = name, f"writer {name[:8]}"
        self.next = self.count = self.skew = self.beat = self.hole = self.dropped = 0
        self.last = -1  # its last record
        self.time = ""  # the latest in its records
        self.wrote = 0.0  # when it last wrote: a call's time is when that began
        self.ended = self.finished = False
        self.intents: dict[str, int] = {}


class Records:
    """
    Whether the records are complete, by what they say: docs/spec/audit-record.md, "Types".

    What makes a log unfit as evidence is found; what it accounts for itself is a warning.
    """

    def __init__(self, profiles: Sequence[str], covered: int, *, audit: bool, quick: bool) -> None:
        self.profiles, self.audit, self.quick = profiles, audit or bool(profiles), quick
        self.covered = covered  # so many entries are under a remembered checkpoint
        self.since = self.latest = ""  # the time of the last of them; the latest of all
        self.seen = self.holes = 0  # entries; pruned stretches
        self.prune: dict[str, Any] = {"minimum": 0}
        self.gone: deque[tuple[int, int]] = deque()  # those that no record so far lets go
        self.holds: set[str] = set()  # legal holds that are placed
        self.held: list[tuple[int, str]] = []  # prunings under them that removed entries
        self.epochs: list[tuple[int, Any, Any]] = []  # index, number and key of each epoch leaf
        self.writers: dict[bytes, Writer] = {}
        self.joined: dict[str, tuple[int, int]] = {}  # where writers go on behind what was pruned
        self.recovered: dict[str, tuple[int, dict[str, Any]]] = {}
        self.ids = [array("q") for _ in range(256)]  # keyed hashes: eight bytes a record
        self.unreviewed: dict[str, tuple[int, set[str]]] = {}
        self.findings: list[tuple[int, str]] = []
        self.warnings: list[tuple[int, str]] = []
        self.found = self.warned = 0

    def add(self, index: int, what: str) -> None:
        """Count a finding, and keep the first ones."""
        self.found += 1
        if len(self.findings) < KEPT:
            self.findings.append((index, what))

    def warn(self, index: int, what: str) -> None:
        """Count a warning, and keep the first ones."""
        self.warned += 1
        if len(self.warnings) < KEPT:
            self.warnings.append((index, what))

    def visit(self, first: int, entries: list[bytes]) -> None:
        """Look at the entries of one bundle, in the order of the log."""
        if first != self.seen:
            self.holes += 1
            self.gone.append((self.seen, first))
        if not self.audit and any(entry.startswith(MAGIC) for entry in entries):
            self.audit = True
            if self.seen:
                self.add(0, f"and all before entry {first} are no audit records")
        self.seen = first + len(entries)
        for index, entry in enumerate(entries, first) if self.audit else ():
            writer = self.writers.get(entry[:50])
            turn = writer is not None and entry[50:67] == b"%016x\n" % writer.next
            if writer is None or not turn or writer.hole != self.holes:
                writer = self._out_of_turn(index, entry)
                if writer is None:
                    continue
            else:
                writer.next += 1
            writer.count += 1
            writer.last = index
            if not self.quick or entry.endswith(TOLD):
                try:
                    body = read_body(entry[67:])
                except ValueError as error:
                    self.add(index, f"is no audit record: {error}")
                else:
                    self._record(index, int(entry[50:66], 16), writer, body)

    def _out_of_turn(self, index: int, entry: bytes) -> Writer | None:
        found = PREFIX.match(entry)
        if not found:
            self.add(index, "is no audit record: it does not begin as one")
            return None
        seq, writer = int(found[2], 16), self.writers.get(entry[:50])
        if writer is None:
            writer = self.writers[entry[:50]] = Writer(found[1].decode())
        if writer.hole != self.holes and seq > writer.next:
            self.joined[writer.name] = index, seq
            writer.count += seq - writer.next
            writer.next, writer.wrote = seq, 0.0
        writer.hole = self.holes
        was, gone = f"{writer.short} goes from {writer.next - 1} to", seq - writer.next
        if gone:
            self.add(index, f"{was} {seq}: {f'{gone} missing' if gone > 0 else 'twice, or late'}")
        writer.next = max(writer.next, seq + 1)
        return writer

    def _record(self, index: int, seq: int, writer: Writer, body: dict[str, Any]) -> None:
        kind, name, short = body["type"], body["record"]["id"], writer.short
        said: dict[str, Any] = body.get(kind, {})  # an object, for the types looked at below
        if kind == "prune" and type(said.get("minimum")) is int and said["minimum"] <= index:
            self.prune = said
        if kind == "epoch":
            self.epochs.append((index, said.get("number"), said.get("vkey")))
        if self.quick:
            return
        if writer.ended:
            self.add(index, f"{short} goes on after its end")
        if (kind == "start") != (seq == 0):
            self.add(index, f"{short} has a {kind} as number {seq}")
        keyed = hash(name)
        self.ids[keyed & 255].append(keyed)
        writer.time = body["time"] if kind == "clock" else max(writer.time, body["time"])
        writer.finished = kind in {"end", "seal"}
        self.latest = max(self.latest, body["time"])
        self.since = body["time"] if index < self.covered else self.since
        if kind == "call":
            announced = writer.intents.pop(body["intent"], -1) if "intent" in body else index
            if announced < 0 and not self.holes:
                self.warn(index, f"names an intent that {short} has not announced, or twice")
        elif kind == "intent":
            writer.intents[name] = index
        elif kind == "start":
            writer.beat = said.get("heartbeat_s", 0)
            writer.wrote = moment(body["time"])
        elif kind == "clock":
            writer.wrote = moment(body["time"])
        elif kind in {"end", "heartbeat"}:
            writer.ended = writer.ended or kind == "end"
            if said["records"] != writer.count + writer.skew:
                self.add(index, f"{short} counts {said['records']} records, not {writer.count}")
            writer.skew = said["records"] - writer.count
        elif kind == "gap":
            writer.dropped += said["dropped"]
            self.warn(index, f"{short} refused {said['dropped']} records: {said['reason']}")
        elif kind == "disk-full":
            self.warn(index, f"{short} had no room for {body['disk_full']['refused']} records")
        elif kind in {"hold", "prune"}:
            self._held(index, kind, said)
        elif kind == "recovery":
            self.recovered[said["writer"]] = index, said
            if said["verdict"] not in {"clean", "torn"}:
                tell = self.add if said["verdict"] in {"corrupt", "gap"} else self.warn
                tell(index, f"writer {said['writer'][:8]} left its records {said['verdict']}")
        if writer.beat:
            at = moment(body["time"]) + body.get("latency_us", 0) / 1e6
            writer.wrote = max(writer.wrote, at)
        if self.profiles:
            self._profiled(index, kind, name, body)

    def _held(self, index: int, kind: str, said: dict[str, Any]) -> None:
        """Note a pruning under a legal hold, where entries are gone that only it lets go."""
        if kind == "hold":
            (self.holds.add if said["state"] == "placed" else self.holds.discard)(said["name"])
            if not self.holds:
                self.held.clear()  # the removals may have waited for this
        elif self.prune is said:
            low, gone = said["minimum"], 0
            while self.gone and self.gone[0][0] < low:
                first, end = self.gone.popleft()
                if end > low:
                    self.gone.appendleft((low, end))
                gone += min(end, low) - first
            if self.holds and gone:
                names = ", ".join(map(ascii, sorted(self.holds)[:5]))
                what = f"prunes below {low} under a legal hold, {names}: {gone} entries are gone"
                self.held.append((index, f"{what}, and since then there was no time without one"))

    def _profiled(self, index: int, kind: str, name: str, body: dict[str, Any]) -> None:
        for profile in self.profiles if kind == "call" else ():
            for field in lacks(profile, body):
                self.add(index, f"lacks {field} ({profile})")
        reviewers = set(body.get("oversight", {}).get("reviewers", ()))
        if kind == "human-review" and body.get("review") in self.unreviewed:
            self.unreviewed[body["review"]][1].update(reviewers)
        elif kind == "call" and EU in self.profiles:
            self.unreviewed[name] = index, reviewers

    def finish(self, again: Callable[[], Iterator[tuple[int, list[bytes]]]]) -> None:
        """Judge what only the end of the log can tell; *again* reads the entries once more."""
        end = max((max(one.wrote, moment(one.time)) for one in self.writers.values()), default=0.0)
        for writer in self.writers.values():
            index, took = self.recovered.pop(writer.name, (0, {}))
            unfit = writer.finished and len(writer.intents) > writer.dropped
            if not writer.finished and took:
                self.warn(writer.last, f"{writer.short} died after this; entry {index} took over")
                if took["verdict"] in {"clean", "torn"} and took["records"] > writer.count:
                    self.add(index, f"took over {took['records']} records, not {writer.count}")
            elif not writer.finished:
                silent = end - writer.wrote if writer.beat else 0
                if silent <= 2 * writer.beat:
                    continue  # at work, for all that anybody knows
                what = f"{writer.short} fell silent for {silent:.0f} s, without an end"
                self.add(writer.last, what)
            tell = self.add if unfit else self.warn
            for index in writer.intents.values():
                tell(index, f"{writer.short} announced a call, and never said how it ended")
        for index, took in self.recovered.values():
            if took["records"] and took["verdict"] in {"clean", "torn"} and not self.holes:
                self.add(index, f"took over {took['records']} records, and there are none")
        for name, (index, seq) in self.joined.items():
            said = self.prune.get("writers", {}).get(name, 0)
            if index >= self.prune["minimum"] > 0 and said != seq:
                self.add(index, f"writer {name[:8]} goes on at {seq}, the pruning says {said}")
        for index, what in self.held:
            self.warn(index, what)
        for index, reviewers in self.unreviewed.values():
            if len(reviewers) < 2:
                self.add(index, f"lacks two reviewers ({EU})")
        self._twice(again)
        self.findings.sort()
        self.warnings.sort()

    def _twice(self, again: Callable[[], Iterator[tuple[int, list[bytes]]]]) -> None:
        twice: set[int] = set()
        for some in self.ids:
            ordered = sorted(some)
            twice.update(a for a, b in zip(ordered, ordered[1:]) if a == b)
        first: dict[str, int] = {}
        for start, entries in again() if twice else ():
            for index, entry in enumerate(entries, start):
                try:
                    name = read_body(entry[67:])["record"]["id"]
                except ValueError:
                    continue
                if hash(name) in twice and first.setdefault(name, index) != index:
                    self.add(index, f"has the id of entry {first[name]}")


EU, PCI = "eu-ai-act-12-3", "pci-10.2.2"


def lacks(profile: str, body: dict[str, Any]) -> list[str]:
    """Return what a profile asks of a call and is not there: presence, not truth."""
    if profile == EU:  # Article 12 (3) (a) to (c); (d), who looked at it, may come later
        need = {"period": ("start", "end"), "refdb": ("name",), "in": ()}
        some = {}
    else:  # PCI DSS 10.2.2; what, when and whether it worked are in every call
        need = {"actor": ("id",)}
        some = {"source": ("address", "host"), "target": ("id", "name")}
    return [n for n in need if not body.get(n) or not all(body[n].get(k) for k in need[n])] + [
        n for n in some if not any(body.get(n, {}).get(k) for k in some[n])
    ]


def moment(text: str) -> float:
    """Return a time in seconds since 1970; 0 for none."""
    return datetime.fromisoformat(text[:-1] + "+00:00").timestamp() if text else 0.0


# --- Epochs, docs/spec/epochs.md ---------------------------------------------------------------


def announced(entry: bytes) -> dict[str, Any]:
    """Return what an epoch leaf says; nothing if it is none."""
    try:
        return dict(read_body(entry[67:])["epoch"])
    except (KeyError, ValueError):
        return {}


class Epochs:
    """The keys of a log: each signs its boundary, and under that lies the name of the next."""

    def __init__(self, log: Directory, keys: list[Key], notes: bytes | None) -> None:
        self.chain = [key for key in keys if key.kind == b"\1"]
        self.others = [key for key in keys if key.kind != b"\1"]
        self.ends: list[Head] = []
        self.leaves: list[tuple[int, Any, Any]] = []
        self.followed = notes is not None
        parts = notes.split(b"\n\n") if notes else [b""]
        if parts.pop() or len(parts) % 2:
            raise Refused("the last boundary note was not written to its end")
        if self.followed and len(self.chain) != 1:
            raise Usage("with --epochs give one key of the log, the first")
        for text, lines in zip(parts[::2], parts[1::2]):
            self._follow(log, Head(text + b"\n\n" + lines + b"\n", self.chain[-1:], strict=True))

    def _follow(self, log: Directory, end: Head) -> None:
        low, epoch = self.ends[-1].size if self.ends else 0, len(self.chain)
        entries: list[bytes] = []
        for at in range(end.size - 1, low - 1, -1):  # from the boundary back, where it should be
            if at == end.size - 1 or at % WIDTH == WIDTH - 1:
                entries = log.peek(at // WIDTH, at % WIDTH + 1)
            entry = entries[at % WIDTH] if at % WIDTH < len(entries) else b""
            said = announced(entry) if entry.endswith(TOLD[1]) else {}
            if said.get("number") == epoch:
                key = Key(str(said.get("vkey")))
                if key.name == end.origin == self.chain[0].name and key.kind == b"\1":
                    self.leaves.append((at, epoch, said["vkey"]))
                    self.chain.append(key)
                    self.ends.append(end)
                    return
        raise Refused(f"no entry under boundary note {epoch} announces the key of epoch {epoch}")

    def judge(self, head: Head) -> None:
        """Refuse a checkpoint by a key that is not the one of its size."""
        if self.followed:
            key = self.chain[sum(end.size < head.size for end in self.ends)]
            if head.key is not key:
                what = f"the checkpoint of {head.size} entries is signed by {head.signer}"
                raise Refused(f"{what}, outside of that key's epoch")

    def confirm(self, found: list[tuple[int, Any, Any]]) -> list[str]:
        """Compare with the epoch leaves of the log, once that is rebuilt; return what is left."""
        if not self.followed:
            return ["the chain of epoch keys: give --epochs"] if found else []
        known, more = found[: len(self.leaves)], found[len(self.leaves) :]
        if known != self.leaves or len(more) > 1 or any(e[1] != len(self.chain) for e in more):
            raise Refused("the log announces other epochs than its boundary notes follow")
        return []


# --- Proofs, and the command -------------------------------------------------------------------


def verify_proof(proof: bytes, entry: bytes, keys: list[Key]) -> dict[str, Any]:
    """
    Check that *entry* is where *proof* says, in the log of its signed checkpoint.

    Source: c2sp.org/tlog-proof; RFC 9162 section 2.1.3.2.
    """
    text, _, note = proof.partition(b"\n\n")
    head = Head(note, keys)
    first, *lines = text.decode("ascii", "replace").split("\n")
    extra = b64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else b"none"
    known = first == "c2sp.org/tlog-proof@v1" and 1 <= len(extra) <= 500_000
    if not known or not lines or not lines[0].startswith("index "):
        raise Refused("it is no proof: c2sp.org/tlog-proof@v1, then extra or not, index, hashes")
    index, path = decimal(lines[0][6:]), [b64(line) for line in lines[1:]]
    fn, sn, found = index, head.size - 1, sha256(b"\0" + entry).digest()
    for sibling in path:
        if sn <= 0 or len(sibling) != 32:
            raise Refused("the path of the proof has another length than a tree of that size asks")
        left = fn & 1 or fn == sn
        found = sha256(b"\1" + (sibling + found if left else found + sibling)).digest()
        while left and fn and not fn & 1:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    if index >= head.size or sn or found != head.root:
        raise Refused(f"it is not proven to be entry {index} of {head.size}", entry=index)
    return {
        "verdict": "ok",
        "proven": f"entry {index} of {head.size}, {len(entry)} bytes",
        **head.report(),
    }


def verify_log(
    base: str,
    keys: list[Key],
    *,
    remembered: Sequence[bytes] = (),
    profiles: Sequence[str] = (),
    audit: bool = False,
    quick: bool = False,
    epochs: bytes | None = None,
) -> dict[str, Any]:
    """
    Check every byte of the log in *base*; return the report.

    Raises:
        Refused: It does not hold; `Unknown` when the system would not let us look.
    """
    started = time.process_time()
    log = Directory(base)
    chain = Epochs(log, keys, epochs)
    keys = [*chain.chain, *chain.others]
    head = log.look(keys)
    kept = [Head(note, keys) for note in remembered]
    for one in (head, *kept):
        chain.judge(one)
    for one in (*kept, *chain.ends):
        if one.origin != head.origin:
            raise Refused(f"the remembered checkpoint is of {one.origin!a}, not {head.origin!a}")
        if one.size > head.size:
            raise Refused(f"it was cut or rolled back: it once had {one.size} entries")
    covered = max((one.size for one in kept), default=0)
    records = Records(profiles, covered, audit=audit, quick=quick)
    tree = Tree(log, head)
    roots = tree.build({one.size for one in (*kept, *chain.ends)}, records.visit)
    for one in (*kept, *chain.ends):
        if roots[one.size] != one.root:
            raise Refused(
                f"it was forked or written anew: its first {one.size} entries are others"
            )
    for number in tree.absent:
        below = (number + 1) * WIDTH <= records.prune["minimum"]
        if not below or number in records.prune.get("kept", ()):
            name = place("entries", number, width_of(head.size, 0, number))
            raise Refused(f"{name!a} is missing, and no record says that it was pruned", file=name)
    head.unchecked += chain.confirm(records.epochs)
    bundles = range((head.size + WIDTH - 1) // WIDTH)
    records.finish(lambda: ((number * WIDTH, tree.bundle(number)) for number in bundles))
    window = f"entries {covered} to {head.size - 1}" if kept else "whole log"
    if records.since and records.latest:
        lasted = moment(records.latest) - moment(records.since)
        window += f", {lasted:.0f} s from {records.since}"
    gone = f"; {len(tree.absent)} bundles pruned" if tree.absent else ""
    said = (
        "not looked at" if quick else f"{records.found} findings" if records.found else "complete"
    )
    spent = time.process_time() - started
    return {
        "verdict": "refused" if records.found else "ok",
        **head.report(*kept),
        "tree": f"rebuilt: {head.size} entries, {len(bundles)} bundles, {tree.tiles} tiles{gone}",
        "records": f"{said}; {len(records.writers)} writers" if records.audit else "no audit log",
        "findings": [{"entry": index, "what": what} for index, what in records.findings],
        "warnings": [{"entry": index, "what": what} for index, what in records.warnings],
        "epochs": f"{len(chain.chain)} keys followed" if chain.followed else "not followed",
        "rollback": "checked" if kept else "not checkable",
        "undetected": "none" if kept and covered == head.size else window,
        "entries_per_cpu_second": int(head.size / spent) if spent else 0,
    }


def load(path: str, limit: int) -> bytes:
    """Return the bytes of a file that the command names."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise Usage(f"{path!a} cannot be read: {error}") from None
    if len(data) > limit:
        raise Usage(f"{path!a} is longer than such a file can be")
    return data


def read_key(text: str) -> Key:
    """Read a verifier key, given as itself or as the path of a file that holds it."""
    try:
        return Key(text if text.count("+") > 1 else load(text, 10_000).decode())
    except (Refused, ValueError) as error:
        raise Usage(f"--key: {error}") from None


def command(arguments: list[str]) -> tuple[dict[str, Any], bool]:
    """Do what the command line asks; return the report, and whether it is wanted as JSON."""
    parser = argparse.ArgumentParser("verify_log.py", description=str(__doc__).split("\n")[1])
    parser.add_argument("dir", nargs="?", help="the directory of the log")
    for name, about in (
        ("--key", "verifier key of the log, or of a witness, or a file with one"),
        ("--remembered", "a checkpoint that was kept elsewhere"),
        ("--profile", f"ask each record for the fields of {EU} or {PCI}"),
    ):
        parser.add_argument(name, action="append", default=[], help=about)
    for name, about in (
        ("--audit", "refuse entries that are no audit records"),
        ("--quick", "look at writer and number of audit records, not at what they say"),
        ("--json", "print one JSON object"),
    ):
        parser.add_argument(name, action="store_true", help=about)
    parser.add_argument("--epochs", help="the boundary notes of a log whose first key --key is")
    parser.add_argument("--proof", help="a .tlog-proof file")
    parser.add_argument("--entry", help="a file with the bytes of the entry that is proven")
    given = parser.parse_args(arguments)
    try:
        keys = [read_key(text) for text in given.key]
        if (
            not keys
            or bool(given.dir) == bool(given.proof)
            or bool(given.proof) != bool(given.entry)
        ):
            raise Usage("give --key, and DIR or --proof and --entry")  # noqa: TRY301
        if not {EU, PCI}.issuperset(given.profile):
            raise Usage(f"the profiles are {EU} and {PCI}")  # noqa: TRY301
        if given.proof:
            proof, entry = load(given.proof, 2_000_000), load(given.entry, MAX_ENTRY)
            return verify_proof(proof, entry, keys), given.json
        notes = [load(path, MAX_NOTE) for path in given.remembered]
        ends = load(given.epochs, 64 * MAX_NOTE) if given.epochs else None
        modes = {
            "epochs": ends,
            "profiles": given.profile,
            "audit": given.audit,
            "quick": given.quick,
        }
        return verify_log(given.dir, keys, remembered=notes, **modes), given.json
    except Refused as error:
        return {"verdict": error.verdict, "error": str(error), **error.where}, given.json
    except Exception as error:  # noqa: BLE001  hostile input is never worth a traceback
        return {"verdict": "unknown", "error": f"{type(error).__name__}: {error}"}, given.json


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    report, as_json = command(arguments)
    lines = [json.dumps(report, sort_keys=True)] if as_json else []
    for name, value in report.items() if not as_json else ():
        for item in value if isinstance(value, list) else [value]:
            shown = f"entry {item['entry']} {item['what']}" if isinstance(item, dict) else item
            # Escaped: what a log says about itself is not to move the cursor of its reader.
            lines.append(f"{name}: {shown}".encode("unicode_escape").decode())
    for line in lines:
        sys.stdout.write(line + "\n")
    return {"ok": 0, "refused": 1, "usage": 2}.get(report["verdict"], 3)


if __name__ == "__main__":  # pragma: no cover - tests run it as a program
    sys.exit(main(sys.argv[1:]))
