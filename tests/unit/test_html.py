"""What a notebook shows carries text, never markup, from outside."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from secureml._html import card, grid

OURS = {"div", "table", "tr", "th", "td", "code"}
texts = st.text(max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=y>",
        "' onclick='x",
        '"><b>',
        "&lt;",
        "</td>",
    ]
)


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def read(html: str) -> Reader:
    """Return what a browser would see in *html*."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def shown(text: str) -> str:
    """Return *text* as an HTML parser gives it back: it knows one line end and no NUL."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


@given(texts, st.lists(st.tuples(texts, texts), max_size=3), texts)
def test_a_card_holds_text_only(title: str, rows: list[tuple[str, str]], note: str) -> None:
    """Whatever the text, a card has our tags, a style and a class, and no more."""
    page = card(title, rows, note=note)
    seen = read(page)

    assert set(seen.tags) <= OURS
    assert seen.attributes <= {"class", "style"}
    assert seen.tags.count("tr") == len(rows)
    for text in (title, note, *(cell for row in rows for cell in row)):
        assert shown(text) in shown(seen.text)


@given(texts, st.lists(texts, min_size=1, max_size=3), st.data())
def test_a_grid_holds_text_only(title: str, header: list[str], data: st.DataObject) -> None:
    """Whatever the text, a grid has a cell for each value and no other tag."""
    row = st.lists(texts, min_size=len(header), max_size=len(header))
    rows = data.draw(st.lists(row, max_size=3))
    seen = read(grid(title, header, rows))

    assert set(seen.tags) <= OURS
    assert seen.attributes <= {"class", "style"}
    assert seen.tags.count("th") == len(header)
    assert seen.tags.count("td") == len(header) * len(rows)
    assert all(shown(cell) in shown(seen.text) for line in rows for cell in line)


def test_values_are_shown_as_text() -> None:
    """A value that is no text is shown as ``str`` shows it."""
    seen = read(card("Manifest", [("files", 3), ("signer", None)], note="a <note>"))

    assert "files3" in seen.text
    assert "signerNone" in seen.text
    assert seen.text.endswith("a <note>")


def test_no_note_leaves_no_room() -> None:
    """A card without a note ends with its table."""
    assert card("t", []).endswith("</table></div>")
    assert grid("t", ["a"], []).endswith("</table></div>")
    assert "opacity:.75" not in card("t", [])
