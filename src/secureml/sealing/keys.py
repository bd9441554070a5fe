"""
The keys of subjects: one for each, made at first use, and destroyed for ever.

A key lies in a file of its own, so destroying it touches nobody else's.
Before a key is used its file is looked at: one that another process destroyed
is not used again.  Making a key does not wait for the disk; `sync` does, before
anything is acknowledged as durable.

Edge: that a file was overwritten says nothing about journals, copy-on-write
file systems, flash and backups.

Source: docs/spec/sealed-values.md.
"""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from secureml._durable import sync_directory, write_beside
from secureml.errors import KeyUnavailableError, StoreError
from secureml.sealing import _keyfile
from secureml.sealing._keyfile import SHREDDING, TICKS, KeyFile
from secureml.sealing.cipher import KEY_SIZE, Encrypted, SubjectKey

__all__ = ["DIRECTORY", "SubjectKeys"]

DIRECTORY: Final = "subjects"
"""Name of the keys' directory in the private directory."""

_HELD: Final = 1024
_TRIES: Final = 16
_YOUNG: Final = 600.0
_SETTLED: Final = 0.1
_SUBJECT: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SHARD: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)


class _Held(SubjectKey):
    """A key in memory, and what its file looked like when it was read."""

    __slots__ = ("path", "seen")

    def __init__(self, path: Path, found: KeyFile) -> None:
        super().__init__(found.id, found.key)
        self.path = str(path)
        self.seen = found.seen

    def is_current(self) -> bool:
        """Return whether the file is still the one that was read."""
        try:
            status = os.stat(self.path)  # noqa: PTH116  a third of the time of Path.stat
        except OSError:
            return False
        return (status.st_ino, status.st_mtime_ns) == self.seen


class SubjectKeys:
    """
    The subject keys of one private directory.

    Safe to use from many threads and processes, and after fork.

    Args:
        private: The private directory.
        master: A master key that wraps every subject key: 32 bytes, or the path of a file
            of 32 bytes with mode 0600.  Who has the private directory alone then opens nothing.

    Raises:
        ValueError: *master* has another length.
        KeyUnavailableError: The file of the master key cannot be used.
    """

    __slots__ = ("_dead", "_held", "_index", "_master", "_scanned", "_young", "directory")

    def __init__(self, private: Path, *, master: bytes | Path | None = None) -> None:
        self.directory = Path(private) / DIRECTORY
        self._master = read_master(master) if isinstance(master, Path) else master
        if self._master is not None and len(self._master) != KEY_SIZE:
            msg = f"a master key has {KEY_SIZE} bytes, got {len(self._master)}"
            raise ValueError(msg)
        # The garbage collector may close a stream, and so encrypt, inside any of these
        # methods: no lock, and every step on these is one that Python makes whole.
        self._held: dict[str, _Held] = {}
        self._young: dict[Path, None] = {}
        self._index: dict[str, Path] = {}
        self._scanned: object = None
        self._dead = ""

    def __repr__(self) -> str:
        return f"<SubjectKeys {str(self.directory)!r}>"

    def encrypt(self, subject: str, plaintext: bytes, *, record: str, path: str) -> Encrypted:
        """
        Encrypt a value under the subject's key, which is made when there is none.

        Args:
            subject: Whose value it is: a pseudonym, 32 hex digits.
            plaintext: The salt and the value's bytes.
            record: Id of the record.
            path: Path of the value within it.

        Raises:
            ValueError: *subject* is no pseudonym.
            KeyUnavailableError: The key cannot be read or made.
        """
        key = self._held.get(subject)
        if key is None or not key.is_current():
            key = self._load(subject)
        made = key.encrypt(plaintext, record=record, path=path)
        if made.ciphertext.startswith(b"\0\0"):
            self._tick(key)
        return made

    def decrypt(
        self, encrypted: Encrypted, *, record: str, path: str, subject: str | None = None
    ) -> bytes:
        """
        Return what was encrypted.

        Args:
            encrypted: The value.
            record: Id of its record.
            path: Its path.
            subject: Whose key to look at first; without it, all are looked through once.

        Raises:
            LookupError: The key is not here: it was destroyed, or never was.
            KeyUnavailableError: The key cannot be read.
            FormatError, VerificationError: As `SubjectKey.decrypt`.
        """
        file = self._find(encrypted.key, subject)
        if file is None:
            raise _gone(encrypted.key)
        try:
            found = _keyfile.read(file, file.name[:32], self._master)
        except FileNotFoundError:
            raise _gone(encrypted.key) from None
        except OSError as error:
            raise _keyfile.unusable(file, str(error.strerror)) from error
        if found.id != encrypted.key:
            raise _gone(encrypted.key)
        return SubjectKey(found.id, found.key).decrypt(encrypted, record=record, path=path)

    def has(self, key: str, *, subject: str | None = None) -> bool:
        """
        Return whether the key with this id is here.

        Raises:
            KeyUnavailableError: The keys cannot be read.
        """
        return self._find(key, subject) is not None

    def ids(self, subject: str) -> tuple[str, ...]:
        """
        Return the ids of the keys of *subject*, every generation.

        Raises:
            ValueError: *subject* is no pseudonym.
            KeyUnavailableError: The keys cannot be read.
        """
        return tuple(key for _, key in self._of(subject))

    def sync(self) -> None:
        """
        Make every key that was used here durable; free when none is new.

        Raises:
            StoreError: The system could not, now or before.
        """
        while self._young and not self._dead:
            with contextlib.suppress(KeyError):
                self._sync(self._young.popitem()[0])
        if self._dead:
            raise StoreError(
                f"the subject keys in {str(self.directory)!r} are not safe on the disk",
                why=self._dead,
                fix="repair the disk or make room, then begin again with a new process",
            )

    def _sync(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return  # It was destroyed in between.
        except OSError as error:
            self._dead = str(error.strerror)
            return
        try:
            os.fsync(fd)
            for directory in (path.parent, self.directory, self.directory.parent):
                sync_directory(directory)
        except OSError as error:
            # The system may report it once and drop the bytes: asking again proves nothing.
            self._dead = str(error.strerror)
        finally:
            os.close(fd)

    def shred(self, keys: Collection[str], *, subject: str | None = None) -> tuple[str, ...]:
        """
        Destroy the keys with these ids, for ever; those that are gone already are passed over.

        What a crash left half destroyed is finished too.

        Args:
            keys: Ids.
            subject: Whose they are; without it, all are looked through.

        Returns:
            The ids of those that were destroyed by this call.

        Raises:
            StoreError: One is still there; call again.
        """
        wanted = set(keys)
        done: list[str] = []
        try:
            for path, key in list(self._all() if subject is None else self._of(subject)):
                if key not in wanted:
                    continue
                self._held.pop(path.name[:32], None)
                self._index.pop(key, None)
                with contextlib.suppress(FileNotFoundError):
                    _keyfile.shred(path)
                    done.append(key)
            self.sweep()
        except OSError as error:
            raise StoreError(
                f"a subject key in {str(self.directory)!r} could not be destroyed",
                why=str(error.strerror),
                fix="set the modes right, and call again: what is done stays done",
                retryable=True,
            ) from error
        return tuple(done)

    def sweep(self) -> None:
        """
        Finish what a crash left: files half destroyed, files never used.

        Raises:
            OSError: One is still there.
        """
        for shard in self._shards():
            for name in os.listdir(shard):  # noqa: PTH208  names are wanted
                path = shard / name
                if name.startswith(SHREDDING) or _keyfile.is_temporary(name, path):
                    with contextlib.suppress(FileNotFoundError):
                        _keyfile.shred(path)

    def rewrap(self, master: bytes | None) -> None:
        """
        Wrap every key with another master key, or with none.

        Nothing else may use the keys meanwhile, in any process.  After a crash,
        call it again with the same two master keys: what is done is passed over.

        Args:
            master: 32 bytes, or None to store the keys as they are.

        Raises:
            ValueError: *master* has another length.
            KeyUnavailableError: A key cannot be read.
            StoreError: A file cannot be written.
        """
        if master is not None and len(master) != KEY_SIZE:
            msg = f"a master key has {KEY_SIZE} bytes, got {len(master)}"
            raise ValueError(msg)
        for path, key in list(self._all()):
            subject = path.name[:32]
            try:
                try:
                    found = _keyfile.read(path, subject, self._master)
                except KeyUnavailableError:
                    _keyfile.read(path, subject, master)
                    continue
                data = _keyfile.spell(subject, bytes.fromhex(key), found.key, master)
                old = os.open(path, os.O_WRONLY)
                try:
                    write_beside(path, data + b"." * found.ticks, mode=0o600)
                    os.write(old, bytes(len(data)))
                    os.fsync(old)
                finally:
                    os.close(old)
            except OSError as error:
                raise StoreError(
                    f"the subject key {path.name!r} could not be written",
                    why=str(error.strerror),
                    fix="make room or set the modes right, and call again",
                    retryable=True,
                ) from error
        self._held.clear()
        self._master = master

    def _tick(self, key: _Held) -> None:
        """Count 65,536 values, in whichever process they were encrypted."""
        try:
            fd = os.open(key.path, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _keyfile.unusable(Path(key.path), str(error.strerror)) from error
        try:
            os.write(fd, b".")
        except OSError as error:
            raise _keyfile.unusable(Path(key.path), str(error.strerror)) from error
        finally:
            os.close(fd)

    def _path(self, subject: str, generation: int) -> Path:
        if not _SUBJECT.fullmatch(subject):
            msg = f"a subject is a pseudonym, 32 hex digits, not {subject[:40]!r}"
            raise ValueError(msg)
        name = f"{subject}.{generation}" if generation else subject
        return self.directory / subject[:2] / name

    def _load(self, subject: str) -> _Held:
        generation = 0
        for _ in range(_TRIES):
            path = self._path(subject, generation)
            try:
                try:
                    found = _keyfile.read(path, subject, self._master)
                except FileNotFoundError:
                    _keyfile.create(path, subject, self._master)
                    self._young[path] = None
                    continue
            except OSError as error:
                raise _keyfile.unusable(path, str(error.strerror)) from error
            if found.ticks >= TICKS:
                generation += 1
                continue
            if time.time() - found.made < _YOUNG:
                # Another process made it, and may not have synced it.
                self._young[path] = None
            key = _Held(path, found)
            if len(self._held) >= _HELD:
                for name in list(self._held)[: _HELD // 4]:
                    self._held.pop(name, None)
            self._held[subject] = key
            return key
        raise _keyfile.unusable(path, "it is destroyed as often as it is made")

    def _shards(self) -> Iterator[Path]:
        try:
            names = sorted(os.listdir(self.directory))  # noqa: PTH208  names are wanted
        except FileNotFoundError:
            return
        yield from (self.directory / name for name in names if _SHARD.fullmatch(name))

    def _files(self, shard: Path, start: str = "") -> Iterator[tuple[Path, str]]:
        """Yield (file, key id) of every key in a shard whose name begins so."""
        try:
            names = sorted(os.listdir(shard))  # noqa: PTH208  names are wanted
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(start or shard.name) and _keyfile.owner(name):
                found = self._id(shard / name)
                if found is not None:
                    yield shard / name, found

    def _id(self, path: Path) -> str | None:
        try:
            return _keyfile.read(path, path.name[:32], self._master, opened=False).id
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _keyfile.unusable(path, str(error.strerror)) from error

    def _all(self) -> Iterator[tuple[Path, str]]:
        try:
            for shard in self._shards():
                yield from self._files(shard)
        except OSError as error:
            raise _keyfile.unusable(self.directory, str(error.strerror)) from error

    def _of(self, subject: str) -> list[tuple[Path, str]]:
        shard = self._path(subject, 0).parent
        try:
            return list(self._files(shard, subject))
        except OSError as error:
            raise _keyfile.unusable(shard, str(error.strerror)) from error

    def _find(self, key: str, subject: str | None) -> Path | None:
        """Return the file of a key."""
        likely = [self._index.get(key)]
        if subject is not None and _SUBJECT.fullmatch(subject):
            likely.append(self._path(subject, 0))
        for path in likely:
            if path is not None and self._id(path) == key:
                return path
        stamp, settled = self._stamp()
        if stamp != self._scanned:
            self._index = {found: path for path, found in self._all()}
            self._scanned = stamp if settled else None
        path = self._index.get(key)
        return path if path is not None and self._id(path) == key else None

    def _stamp(self) -> tuple[object, bool]:
        """Return what changes with the set of keys, and whether it can be relied on."""
        try:
            times = tuple((str(s), s.stat().st_mtime_ns) for s in self._shards())
        except OSError as error:
            raise _keyfile.unusable(self.directory, str(error.strerror)) from error
        newest = max((when for _, when in times), default=0)
        return times, time.time() - newest / 1e9 > _SETTLED


def _gone(key: str) -> LookupError:
    return LookupError(f"the key {key} is not here: it was destroyed")


def read_master(path: Path) -> bytes:
    """
    Return the master key in a file: 32 bytes, mode 0600.

    Raises:
        KeyUnavailableError: It cannot be read, has another length, or is open to others.
    """
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise _keyfile.unusable(path, str(error.strerror)) from error
    if os.name == "posix" and mode & 0o077:
        raise _keyfile.unusable(path, f"others may read it: its mode is {mode & 0o777:04o}")
    if len(key) != KEY_SIZE:
        raise _keyfile.unusable(path, f"it does not have {KEY_SIZE} bytes")
    return key
