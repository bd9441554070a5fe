"""Facts about `secureml.wire.base64`."""

import base64
from itertools import count

import pytest

from secureml.errors import FormatError
from secureml.wire.base64 import b64decode, b64encode


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("Zg==", b"f"),
        ("Zm8=", b"\x66\x6f"),
        ("Zm9v", b"foo"),
        ("Zm9vYmFy", b"foobar"),
        ("+/+/", b"\xfb\xff\xbf"),
    ],
)
def test_vectors_of_rfc_4648(text: str, data: bytes) -> None:
    """The vectors of RFC 4648 section 10, both ways."""
    assert data == b64decode(text)
    assert text == b64encode(data)


@pytest.mark.parametrize(
    "text",
    [
        "Zh==",
        "Zm9=",
        "Zg",
        "Zg=",
        "Zg===",
        "=Zg=",
        "Zg==Zg==",
        "Zm9v\n",
        " Zm9v",
        "Zm 9v",
        "Zm9v=",
        "-_-_",
        "Zm9\u00e9",
        "\u5dee",
        "\ud800",
        "====",
        "A",
    ],
    ids=count(),
)
def test_other_spellings_are_refused(text: str) -> None:
    """Padding, pad bits, alphabet and white space have one spelling."""
    with pytest.raises(FormatError):
        b64decode(text)


def test_the_url_safe_alphabet_is_another_alphabet() -> None:
    """Each alphabet is read only where it is asked for."""
    data = bytes(range(256))
    text = base64.urlsafe_b64encode(data).decode()

    assert data == b64decode(text, url_safe=True)
    with pytest.raises(FormatError):
        b64decode(b64encode(data), url_safe=True)
    with pytest.raises(FormatError):
        b64decode("-_+/", url_safe=True)


def test_a_long_text_is_shown_short() -> None:
    """An error shows the beginning of what it refuses."""
    with pytest.raises(FormatError) as caught:
        b64decode("\u00e9" * 10_000)

    assert len(caught.value.what) < 500
