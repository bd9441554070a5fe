r"""
ArcSight Common Event Format, version 0: one line a record.

In the header a backslash and a pipe are escaped, and a line break becomes a
space, for the header knows no other way.  In the extension a backslash, an
equals sign and line breaks are escaped (``\\``, ``\=``, ``\n``, ``\r``), and a
pipe is not.  Other control characters, and what some readers take for the end
of a line, have no spelling in CEF: they are written as an escaped backslash
and ``uXXXX``, so that a reader sees ``\u0007``.

The whole leaf does not go along: readers cut long values.  Origin, index and
leaf hash lead to it.

Source: ArcSight Common Event Format, Implementation Standard, "Character Encoding".
"""

import re
from typing import Final

from secureml.audit.export.mapping import FIELDS, Item, microseconds, product_version

__all__ = ["LABELS", "spell"]

LABELS: Final = {
    "cn1": "logIndex",
    "cn2": "sequence",
    "cn3": "latencyMicroseconds",
    "cs1": "leafHash",
    "cs2": "writer",
    "cs3": "modelName",
    "cs4": "modelDigest",
    "cs5": "session",
    "cs6": "traceId",
    "flexString1": "request",
    "flexString2": "tenant",
}
"""What the numbered keys mean; written beside each, as ``cs1Label``."""

_SEVERITY: Final = {"disk-full": 6, "gap": 6, "recovery": 6}
_BAD: Final = frozenset({"cancelled", "denied", "error", "timeout"})
_HEADER: Final = re.compile(r"[\\|]")
_VALUE: Final = re.compile(r"[\\=]")
_SPECIAL: Final = re.compile(r"[\\=\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BREAKS: Final = re.compile(r"[\r\n]+")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def spell(item: Item) -> bytes:
    """Return the line of *item*, without its end."""
    kind = item.text("type") or "unreadable"
    outcome = item.text("outcome")
    name = item.text("action") or kind
    severity = _SEVERITY.get(kind, 3 if outcome in _BAD else 1)
    head = ("CEF:0", "secureml", "secureml-sdk", product_version(), kind, name, str(severity))
    pairs = []
    for field in FIELDS:
        found = item.values.get(field.record)
        if found is None:
            continue
        if field.record == "time":
            found = microseconds(str(found)) // 1_000
        pairs.append(f"{field.cef}={_value(str(found))}")
        if field.cef in LABELS:
            pairs.append(f"{field.cef}Label={LABELS[field.cef]}")
    if item.malformed is not None:
        pairs.append(f"msg={_value(item.malformed[:1_000])}")
    return f"{'|'.join(map(_header, head))}|{' '.join(pairs)}".encode()


def _header(text: str) -> str:
    if text.isalnum():
        return text
    return _visible(_BREAKS.sub(" ", _HEADER.sub(r"\\\g<0>", text)))


def _value(text: str) -> str:
    if not _SPECIAL.search(text):
        return text
    escaped = _VALUE.sub(r"\\\g<0>", text)
    return _visible(escaped.replace("\n", r"\n").replace("\r", r"\r"))


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda one: rf"\\u{ord(one[0]):04x}", text)
