"""
The verifier for auditors: one file that needs nothing but Python.

Whoever audits a log need not install what wrote it, nor believe it.  The file
``verify_log.py`` beside this module imports the standard library only, and is
given away as it is::

    from secureml.evidence.standalone import source

    Path("verify_log.py").write_text(source(), encoding="utf-8")

It shares no code with the rest of the library, so the two check each other:
tests hold that their verdicts agree.

Source: docs/adr/0012-ed25519-verification-for-auditors.md.
"""

from importlib.resources import files

__all__ = ["NAME", "source"]

NAME = "verify_log.py"
"""The name of the file."""


def source() -> str:
    """
    Return the text of the verifier, ready to be written to a file of any name.

    It runs on Python 3.9 and later, alone: ``python verify_log.py DIR --key VKEY``.
    """
    return (files(__package__ or __name__) / NAME).read_text(encoding="utf-8")
