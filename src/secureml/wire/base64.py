"""
Base 64 that has one spelling: padded, nothing else in it, pad bits zero.

``QQ==`` and ``QR==`` both decode to ``A`` in most readers, so text that
carries base 64 could be changed without changing what it says.  Here the
second is refused.

Source: RFC 4648, sections 3.5, 4 and 5.
"""

import binascii

from secureml.errors import FormatError

__all__ = ["b64decode", "b64encode"]

_FROM_URL = str.maketrans("-_+/", "+/--")


def b64encode(data: bytes) -> str:
    """Spell *data* in standard base 64, padded, on one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def b64decode(text: str, *, url_safe: bool = False) -> bytes:
    """
    Read base 64 in its one spelling.

    Args:
        text: The base 64, padded.
        url_safe: Whether ``-`` and ``_`` stand where ``+`` and ``/`` would.

    Raises:
        FormatError: Another alphabet, white space, missing padding, or pad
            bits that are not zero.
    """
    standard = text.translate(_FROM_URL) if url_safe else text
    try:
        data = binascii.a2b_base64(standard, strict_mode=True)
    except (ValueError, binascii.Error):
        data = b""
    if b64encode(data) == standard:
        return data
    shown = ascii(text if len(text) <= 60 else text[:57] + "...")  # noqa: PLR2004  a line's worth
    raise FormatError(
        f"{shown} is not base 64",
        why="it is not padded, or has characters outside the alphabet or pad bits that are not "
        "zero (RFC 4648)",
        fix="get it again from where it came; "
        "if it is the same, its writer made it wrong or it was altered",
    )
