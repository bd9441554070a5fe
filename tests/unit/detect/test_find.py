"""How detectors are chosen, and how what they find is put together."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml import detect

EMAIL = "bob@example.com"
CARD = "4111 1111 1111 1111"


def cut(text: str, spans: list[detect.Span]) -> list[str]:
    """Return what lies at the spans."""
    return [text[span.start : span.end] for span in spans]


def test_a_detector_finds_its_own_kind_only() -> None:
    """One detector reports one kind, with places that index the text."""
    text = f"{EMAIL} and {CARD}"
    (email,) = detect.named("email")

    assert [detect.Span(0, 15, "email")] == email.find(text)
    assert "email" == email.kind
    assert ["email", "card"] == [span.kind for span in detect.find(text)]


def test_names_are_ids_kinds_and_groups() -> None:
    """A detector has an id with its major, a kind without, and groups have names."""
    assert detect.named("email@1") == detect.named("email")
    assert detect.named("personal") == detect.PERSONAL
    assert detect.named("secrets") == detect.SECRETS
    assert detect.named("national-id") == detect.NATIONAL
    assert detect.named("all") == detect.ALL
    assert len({d.id for d in detect.ALL}) == len(detect.ALL)
    with pytest.raises(ValueError, match="did you mean 'email'"):
        detect.named("emial")
    with pytest.raises(ValueError, match="no detector"):
        detect.named("email@2")


def test_some_are_only_on_request() -> None:
    """Network addresses and dates of birth are found when asked for, and not otherwise."""
    text = "host 192.168.10.7, born 12.03.1980"

    assert detect.find(text) == []
    assert ["ip-address", "birth-date"] == [s.kind for s in detect.find(text, detect.ALL)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.10.7", "192.168.10.7"),
        ("at 10.0.0.255:80", "10.0.0.255"),
        ("2001:db8::8a2e:370:7334.", "2001:db8::8a2e:370:7334"),
        ("[fe80::1%eth0]", "fe80::1"),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3"),
        ("256.1.1.1", ""),
        ("1.2.3.4.5", ""),
        ("v1.2.3.4", ""),
        ("12:30:45", ""),
        ("std::vector", ""),
        ("::1", ""),
        ("a::b::c", ""),
    ],
)
def test_network_addresses(text: str, expected: str) -> None:
    """Addresses of both families are found, times and scopes of a language are not."""
    assert expected == "".join(cut(text, detect.find(text, detect.named("ip-address"))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("born 12.03.1980", "12.03.1980"),
        ("DOB: 1980-03-12", "1980-03-12"),
        ("date of birth 3 March 1980", "3 March 1980"),
        ("born on March 3rd, 1980", "March 3rd, 1980"),
        ("Geburtsdatum: 12.3.80", "12.3.80"),
        ("\u751f\u5e74\u6708\u65e51980\u5e743\u670812\u65e5", "1980\u5e743\u670812\u65e5"),
        ("born 99.99.1980", ""),
        ("DOB: 1980-13-40", ""),
        ("meeting 12.03.1980", ""),
    ],
)
def test_dates_of_birth(text: str, expected: str) -> None:
    """A date counts after a word for birth, and if there is such a day."""
    assert expected == "".join(cut(text, detect.find(text, detect.named("birth-date"))))


@pytest.mark.parametrize(
    "text",
    [
        "bo\u200bb@exa\u00admple.com",
        "\uff42\uff4f\uff42\uff20\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff43\uff4f\uff4d",
        "bob@example\u3002com",
        "4111\u00a01111\u202f1111\u20091111",
        "4111\u20111111\u20131111\u22121111",
        "\uff14\uff11\uff11\uff11 \uff11\uff11\uff11\uff11 \uff11\uff11\uff11\uff11 1111",
        "\u0664\u0661\u0661\u0661 1111 1111 1111",
        "4111\u200b1111\u200c1111\ufeff1111",
        "4\u20601\u20601\u20601111111111\u2060111",
        "b\0o\0b\0@\0e\0x\0a\0m\0p\0l\0e\0.\0c\0o\0m",
        "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000",
    ],
)
def test_disguised_characters_do_not_hide(text: str) -> None:
    """Full-width, foreign, unseen and no-break characters are seen through, to the right place."""
    whole = f"\u00e9\u00ad\u4e2d {text} \u00ad\u00e9"
    spans = detect.find(whole)

    assert [text] == cut(whole, spans)


def test_overlaps_become_one() -> None:
    """What overlaps is one finding, over all of it, named after its longest part."""
    text = "postgres://bob:pa55w0rd@example.com/"
    both = detect.find(text, (*detect.named("email"), *detect.named("url-password")))

    assert ["pa55w0rd@example.com"] == cut(text, both)
    assert ["email"] == [span.kind for span in both]
    assert both == detect.find(text, (*detect.named("url-password"), *detect.named("email")))


def test_neighbours_stay_apart() -> None:
    """Two findings side by side are two."""
    text = "a@example.com,b@example.com 4111111111111111 5555555555554444"

    assert ["email", "email", "card", "card"] == [span.kind for span in detect.find(text)]


def test_a_name_gives_context() -> None:
    """What a value is called decides where its form alone does not."""
    for name in ("ssn", "user_ssn", "userSSN", "social_security_number"):
        assert [detect.Span(0, 9, "us-ssn")] == detect.find("123456789", context=name), name
    assert detect.find("123456789") == []
    assert [detect.Span(0, 10, "phone")] == detect.find("2125550142", context="phone")
    assert [detect.Span(0, 10, "phone")] == detect.find("2125550142", context="mobilePhone")
    for name in ("password", "db_password", "dbPassword", "api_key", "apiKey", "accessToken"):
        assert [detect.Span(0, 7, "password")] == detect.find("a b c d", context=name), name
    for name in ("max_tokens", "passenger", "key", "author", "monkey", "x" * 100):
        assert detect.find("a b c d", context=name) == [], name
    assert detect.find("[password]", context="password") == []
    assert detect.find("", context="password") == []
    assert [detect.Span(5, 20, "email")] == detect.find(f"mail {EMAIL}", context="note")


def test_own_patterns() -> None:
    """A pattern of one's own is found beside the others, on the plain text."""
    own = detect.pattern("patient-number@1", r"PN-\d{8}")
    text = f"PN-\uff11\uff12\uff13\uff1445678 {EMAIL}"

    assert ["patient-number", "email"] == [
        span.kind for span in detect.find(text, (*detect.PERSONAL, own))
    ]
    assert detect.Span(0, 11, "patient-number") == own.find(text)[0]
    assert [] == detect.pattern("nothing@1", r"\b(?=x)").find("x y")


@pytest.mark.parametrize(
    ("name", "expression", "why"),
    [
        ("Patient@1", "x", "not a detector's id"),
        ("patient", "x", "not a detector's id"),
        ("patient@0", "x", "not a detector's id"),
        ("p" * 33 + "@1", "x", "not a detector's id"),
        ("email@7", "x", "has a detector of the kind"),
        ("patient@1", "(", "not a regular expression"),
        ("patient@1", "x*", "matches an empty text"),
    ],
)
def test_bad_patterns_are_refused(name: str, expression: str, why: str) -> None:
    """A name that is malformed or taken, and an expression that is none, are a caller's bug."""
    with pytest.raises(ValueError, match=why):
        detect.pattern(name, expression)


def test_what_is_no_text_or_no_detector_is_refused() -> None:
    """Bytes are not text, and an id that nobody has is no detector."""
    with pytest.raises(TypeError, match="detectors read text, got bytes"):
        detect.find(b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no detector 'other@1'"):
        detect.find("x", (detect.Detector("other@1"),))
    with pytest.raises(ValueError, match="no detector 'email@2'"):
        detect.find("x", (detect.Detector("email@2"),))


def test_too_long_a_text_is_refused() -> None:
    """There is a limit, and the error does not show the text."""
    with pytest.raises(ValueError, match="has 16777217 characters") as refused:
        detect.find("secret" + "x" * (detect.MAX_TEXT - 5))

    assert "secret" not in str(refused.value)


@given(st.text(max_size=200), st.none() | st.text(max_size=20))
def test_any_text_is_read(text: str, context: str | None) -> None:
    """Spans are in order, inside the text, apart from each other and never empty."""
    spans = detect.find(text, detect.ALL, context=context)

    ends = [0, *(span.end for span in spans)]
    assert all(end <= span.start < span.end for end, span in zip(ends, spans, strict=False))
    assert ends[-1] <= len(text)


FRAGMENTS = (
    *("4111", "1111", " ", "-", "@", "a", ".com", "DE89", "password", "=", "\u200b", "\uff11"),
    *("06 12", "+44", "X", "://", ":", "12345678", "Z", "eyJ", ".", "sk-", "(", ")", "\n"),
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
def test_pieces_of_findings_are_read(text: str) -> None:
    """Texts of fragments give spans in order, and each detector alone finds no place more."""
    everything = {n for s in detect.find(text, detect.ALL) for n in range(s.start, s.end)}

    for detector in detect.ALL:
        assert everything.issuperset(
            n for span in detector.find(text) for n in range(span.start, span.end)
        )


def test_import_is_light() -> None:
    """Detectors load no other package of the library and no package of others."""
    code = (
        "import sys; a = set(sys.modules); from secureml import detect; "
        "detect.find('x@y.org 4111111111111111'); "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - a} "
        "- set(sys.stdlib_module_names)), "
        "*sorted(m for m in sys.modules if m.startswith('secureml.') and 'detect' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ["secureml"] == done.stdout.split()
