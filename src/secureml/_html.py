"""
What a notebook shows: one small card per object, every text escaped, no script.

Names, sources and error texts come from files that somebody else may have
written, so nothing reaches the page but through `html.escape`.
"""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["card", "grid"]

_FRAME = (
    "border:1px solid rgba(127,127,127,.35);border-radius:6px;padding:.6em .9em;"
    "display:inline-block;font-family:system-ui,sans-serif;font-size:13px;max-width:60em"
)
_CELL = "text-align:left;padding:.15em .8em .15em 0;vertical-align:top;background:none"


def card(title: str, rows: Iterable[tuple[str, object]], *, note: str = "") -> str:
    """Return *title*, a line for each (name, value) of *rows*, and a closing *note*, as HTML."""
    body = "".join(
        f'<tr><th style="{_CELL};font-weight:500;opacity:.7">{escape(str(name))}</th>'
        f'<td style="{_CELL}"><code>{escape(str(value))}</code></td></tr>'
        for name, value in rows
    )
    return _frame(title, body, note)


def grid(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], *, note: str = ""
) -> str:
    """Return *title* and a table with a *header* line, as HTML."""
    head = "".join(f'<th style="{_CELL};opacity:.7">{escape(h)}</th>' for h in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(str(c))}</td>' for c in row) + "</tr>"
        for row in rows
    )
    return _frame(title, f"<tr>{head}</tr>{body}", note)


def _frame(title: str, body: str, note: str) -> str:
    foot = f'<div style="opacity:.75;margin-top:.4em">{escape(note)}</div>' if note else ""
    return (
        f'<div class="secureml" style="{_FRAME}"><div style="font-weight:600;'
        f'margin-bottom:.3em">{escape(title)}</div>'
        f'<table style="border-collapse:collapse">{body}</table>{foot}</div>'
    )
