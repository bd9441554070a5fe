"""
Look at a file's bytes, never run them: does loading it need pickle?

An extension is a promise by whoever named the file, so the content decides as
well: pickle opcodes (disassembled, not executed), a torch or joblib container
around them, also when compressed.  A file that needs pickle is refused before
any byte of it reaches a loader.

This is not a malware scanner and has no list of bad functions: *whatever*
needs pickle is refused, so there is nothing to bypass by being unlisted.

Source: CPython `pickletools`; CVE-2025-1889 (wrong extension), CVE-2025-1944
and CVE-2025-1945 (ZIP flags), CVE-2025-54886 (silent fallback to joblib).
"""

import ast
import bz2
import io
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

from secureml.errors import UnsafeFormatError

__all__ = ["INERT", "check_inert"]

INERT = frozenset(
    {".cfg", ".csv", ".json", ".jsonl", ".md", ".rst", ".toml", ".txt", ".yaml", ".yml"}
)
"""Text that this library never runs and that no loader of models unpickles."""

_PICKLED = {
    ".bin": "torch's .bin is a pickle",
    ".ckpt": "a checkpoint is a pickle",
    ".cloudpickle": "it is a pickle",
    ".dill": "it is a pickle",
    ".joblib": "joblib files are pickles",
    ".pickle": "it is a pickle",
    ".pkl": "it is a pickle",
    ".pt": "torch files are pickles",
    ".pth": "torch files are pickles",
}
_PROTOCOLS = (b"\x80\x01", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ZIP = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
_PEEK = 64
_NPY_HEADER = 1 << 16
_MAX_OPCODES = 10_000


def check_inert(name: str, data: bytes) -> None:
    """
    Refuse the file *name* when loading it would need pickle.

    Raises:
        UnsafeFormatError: It would; the error says why and what to use instead.
    """
    suffix = PurePosixPath(name).suffix.lower()
    reason = _PICKLED.get(suffix) or _content(suffix, data)
    if reason:
        raise UnsafeFormatError(
            f"{name!r} is not loaded: it could run code",
            why=f"{reason}; unpickling executes whatever the file says",
            fix="save the model again without pickle: run.save(…) writes scikit-learn as skops, "
            "torch state dicts and arrays as safetensors; then sign again",
        )


def _content(suffix: str, data: bytes) -> str:
    """Say why the content needs pickle; nothing when it does not."""
    if suffix == ".safetensors" and _is_safetensors(data):
        return ""  # The length of its header can look like a pickle's first bytes.
    if data[:2] in _PROTOCOLS:
        return "it begins as a pickle"
    if suffix in INERT:
        return ""
    if data[:4] == _ZIP or zipfile.is_zipfile(io.BytesIO(data)):
        # A ZIP is found from its end, so bytes in front of it hide nothing.
        return "" if suffix == ".skops" else _archive(data)
    if data[:6] == _NPY:
        return _array(data)
    if _unpacked(data)[:2] in _PROTOCOLS:
        return "it is a compressed pickle, as joblib writes"
    if _disassembles(data):
        return "its bytes are a complete pickle program"
    return ""


def _is_safetensors(data: bytes) -> bool:
    return int.from_bytes(data[:8], "little") <= len(data) - 8 and data[8:9] == b"{"


def _archive(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    head = file.read(_NPY_HEADER)
                if PurePosixPath(member.filename).suffix.lower() in _PICKLED:
                    return f"it contains {member.filename[:80]!r}"
                if head[:2] in _PROTOCOLS:
                    return f"it contains the pickle {member.filename[:80]!r}"
                if head[:6] == _NPY and (reason := _array(head)):
                    return f"{reason} ({member.filename[:80]!r})"
    except Exception as error:  # noqa: BLE001  whatever our reader refuses, a lenient one may load
        return f"it is a ZIP that cannot be read whole ({type(error).__name__})"
    return ""


def _array(data: bytes) -> str:
    """Refuse an array of Python objects: numpy stores those as pickle."""
    start = 10 if data[6:7] == b"\x01" else 12
    size = int.from_bytes(data[8:start], "little")
    try:
        header = ast.literal_eval(data[start : start + min(size, _NPY_HEADER)].decode("latin-1"))
        objects = _has_object(header["descr"])
    except Exception:  # noqa: BLE001  a header that cannot be read is not taken for a harmless one
        return "it is an array whose type cannot be read"
    return "it holds an array of Python objects, which numpy stores as pickle" if objects else ""


def _has_object(descr: object) -> bool:
    if isinstance(descr, str):
        return descr.lstrip("|<>=").startswith("O")
    if isinstance(descr, tuple):  # (base, shape)
        return _has_object(descr[0])
    if isinstance(descr, list):  # [(name, type), (name, type, shape), …]
        return any(_has_object(field[1]) for field in descr)
    return True


def _unpacked(data: bytes) -> bytes:
    """Return the first bytes inside a compressed stream, or nothing."""
    head = data[:4096]
    attempts: tuple[Callable[[], bytes], ...] = (
        lambda: zlib.decompressobj(wbits=47).decompress(head, _PEEK),
        lambda: bz2.BZ2Decompressor().decompress(data[: 1 << 20], _PEEK),
        lambda: lzma.LZMADecompressor().decompress(head, _PEEK),
    )
    for attempt in attempts:
        try:
            found = attempt()
        except (zlib.error, OSError, lzma.LZMAError, EOFError):
            continue
        if found:
            return found
    return b""


def _disassembles(data: bytes) -> bool:
    """Whether *data* begins with opcodes up to a STOP: pickle protocols 0 and 1 have no magic."""
    count = 0
    try:
        for count, _ in enumerate(pickletools.genops(data), 1):
            if count >= _MAX_OPCODES:
                return True
    except Exception:  # noqa: BLE001  whatever it stumbles over, it is not a pickle
        return False
    return count > 1
