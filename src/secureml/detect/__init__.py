"""
Detectors of personal data and of secrets in text: patterns, and the check digits behind them.

`find` returns where something is, never what it is.  Detectors know forms, so
they miss what has none (names, addresses, a number that is spelled out); they
are one layer of care, not a proof that a text is clean.
"""

from secureml.detect._registry import (
    ALL,
    MAX_TEXT,
    NATIONAL,
    PERSONAL,
    SECRETS,
    Detector,
    Finder,
    Span,
    find,
    named,
    pattern,
)

__all__ = [
    "ALL",
    "MAX_TEXT",
    "NATIONAL",
    "PERSONAL",
    "SECRETS",
    "Detector",
    "Finder",
    "Span",
    "find",
    "named",
    "pattern",
]
