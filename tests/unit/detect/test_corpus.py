"""What detectors must find, and what they must not: official examples and look-alikes."""

import hashlib
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from secureml import detect

VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "detect"
AROUND = ("{}", "see {} please", "({})", '{{"x": "{}"}}', "a,{},b", "x={}", "{}.", "\n{}\n")


def vectors(name: str) -> dict[str, object]:
    """Return a file of vectors; it says where they come from."""
    found: dict[str, object] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    assert found["source"]
    return found


def known_bad() -> Iterator[tuple[str, str]]:
    """Yield each kind and a text that holds one."""
    for name in ("iban", "card", "phone"):
        document = vectors(name)
        texts = document["found"]
        assert isinstance(texts, list)
        yield from ((str(document["expect"]), text) for text in texts)
    national = vectors("national")["found"]
    assert isinstance(national, dict)
    yield from ((kind, text) for kind, texts in national.items() for text in texts)


def known_good() -> list[str]:
    """Return texts in which nothing is to be found."""
    found = vectors("good")["found"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(("kind", "text"), sorted(set(known_bad())))
def test_each_official_example_is_found(kind: str, text: str) -> None:
    """An example of the issuer's own is found as what it is."""
    spans = detect.find(text)

    assert kind in {s.kind for s in detect.find(text, detect.named(kind))}
    assert len(spans) == 1
    assert text.endswith(text[spans[0].start : spans[0].end])


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_does_not_hide_it(around: str) -> None:
    """Quotes, brackets, commas and full stops beside a finding are no part of it."""
    for kind, text in known_bad():
        # A word that announces a number has to stand before it.
        if around == "a,{},b" and kind == "phone":
            continue
        whole = around.format(text)
        found = detect.find(whole, detect.named(kind))

        assert [kind] == [span.kind for span in found], whole
        assert text.endswith(whole[found[0].start : found[0].end]), whole


@pytest.mark.parametrize("text", known_good())
def test_look_alikes_are_left_alone(text: str) -> None:
    """Times, digests, ids, code and prose are not taken for personal data or secrets."""
    assert detect.find(text) == []


def test_every_kind_has_a_known_bad() -> None:
    """No detector of personal data goes without an example that it must find."""
    made = {"email", "us-ssn"}  # made at test time, below

    assert {d.kind for d in detect.PERSONAL} == {kind for kind, _ in known_bad()} | made


def letters(chooser: random.Random, size: int, alphabet: str) -> str:
    """Return *size* characters of an alphabet."""
    return "".join(chooser.choice(alphabet) for _ in range(size))


ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SECRETS = {
    # Made when the test runs: a file with such texts is a finding of its own.
    "aws-key": lambda c: "AKIA" + letters(c, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "github-token": lambda c: "ghp_" + letters(c, 36, ALNUM),
    "gitlab-token": lambda c: "glpat-" + letters(c, 20, ALNUM),
    "slack-token": lambda c: "xoxb-" + letters(c, 12, "0123456789") + "-" + letters(c, 24, ALNUM),
    "stripe-key": lambda c: "sk_" + "live_" + letters(c, 24, ALNUM),
    "google-key": lambda c: "AIza" + letters(c, 35, ALNUM),
    "anthropic-key": lambda c: "sk-ant-api03-" + letters(c, 93, ALNUM),
    "openai-key": lambda c: "sk-proj-" + letters(c, 48, ALNUM),
    "huggingface-token": lambda c: "hf_" + letters(c, 34, ALNUM[:52]),
    "wandb-key": lambda c: "wandb_v1_" + letters(c, 40, ALNUM),
    "npm-token": lambda c: "npm_" + letters(c, 36, ALNUM),
    "pypi-token": lambda c: "pypi-AgE" + letters(c, 100, ALNUM),
    "sendgrid-key": lambda c: f"SG.{letters(c, 22, ALNUM)}.{letters(c, 43, ALNUM)}",
    "databricks-token": lambda c: "dapi" + letters(c, 32, "0123456789abcdef"),
    "azure-key": lambda c: f"AccountKey={letters(c, 86, ALNUM)}==",
    "jwt": lambda c: (
        f"eyJ{letters(c, 33, ALNUM)}.eyJ{letters(c, 60, ALNUM)}.{letters(c, 43, ALNUM)}"
    ),
    "private-key": lambda c: (
        "-----BEGIN EC PRIVATE KEY-----\n"
        + letters(c, 64, ALNUM)
        + "\n-----END EC PRIVATE KEY-----"
    ),
}


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_tokens_are_found_whole(kind: str) -> None:
    """A token is found from its mark to its end, whatever its random part is."""
    chooser = random.Random(kind)  # noqa: S311  a fixed sample
    for _ in range(50):
        secret = SECRETS[kind](chooser)
        text = f"use '{secret}' now"
        spans = detect.find(text, detect.named(kind))

        assert [secret] == [text[s.start : s.end] for s in spans]
        assert detect.find(text.replace(secret[:3], "zzz")) in (
            [],
            detect.find(text.replace(secret[:3], "zzz")),
        )


def test_every_secret_has_a_known_bad() -> None:
    """No detector of secrets goes without an example that it must find."""
    assigned = {"password", "url-password", "bearer-token"}  # below

    assert {d.kind for d in detect.SECRETS} == set(SECRETS) | assigned


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("password=letmein", "letmein"),
        ("PASSWORD: Tr0ub4dor&3", "Tr0ub4dor&3"),
        ("pwd = 'correct horse'", "correct horse"),
        ("my password is hunter2", "hunter2"),
        ('{"password": "s3cr3t pw"}', "s3cr3t pw"),
        ("db_password: s3cr3t", "s3cr3t"),
        ("?user=bob&password=x1y2z3&next=1", "x1y2z3"),
        ("Server=db;Password=a,b;c9;Port=1", "a,b;c9"),
        ("API_KEY=8f14e45fceea167a5a36dedd4bea2543", "8f14e45fceea167a5a36dedd4bea2543"),
        ("client_secret: 'a8Jd0-kLmN2pQ'", "a8Jd0-kLmN2pQ"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPx", "wJalrXUtnFEMI/K7MDENG/bPx"),
        ("mysql --password Sup3rS3cret", "Sup3rS3cret"),
        ("Passwort: geheim123", "geheim123"),
        ("senha=12345678", "12345678"),
        ("password=[password]rest", "[password]rest"),
        ("\u5bc6\u7801\uff1aabc12345", "abc12345"),
    ],
)
def test_what_is_assigned_to_a_password_is_found(text: str, value: str) -> None:
    """The value is found, and only the value."""
    assert [(value, "password")] == [(text[s.start : s.end], s.kind) for s in detect.find(text)]


def test_other_places_of_secrets() -> None:
    """The password in a URL and the token in a header are found."""
    url = "postgres://app:pa55w0rd@db:5432/x"
    header = "Authorization: Bearer abcdEFGH1234ijklMNOP5678"

    assert ["pa55w0rd"] == [url[s.start : s.end] for s in detect.find(url)]
    assert ["bearer-token"] == [s.kind for s in detect.find(header)]


def test_social_security_numbers() -> None:
    """A number is found in its spelling, by its name without one, and never an impossible one."""
    chooser = random.Random(1)  # noqa: S311  a fixed sample
    for _ in range(300):
        area, group, serial = (
            chooser.randrange(1000),
            chooser.randrange(100),
            chooser.randrange(10_000),
        )
        possible = area not in {0, 666} and area < 900 and group and serial
        spelled = f"{area:03}-{group:02}-{serial:04}"
        only = detect.named("us-ssn")

        assert bool(possible) == bool(detect.find(spelled, only))
        assert bool(possible) == bool(detect.find(f"SSN {spelled.replace('-', '')}", only))
        assert detect.find(spelled.replace("-", ""), only) == []


def test_few_false_alarms() -> None:
    """Random ids, digests and times are hardly ever taken for something."""
    chooser = random.Random(7)  # noqa: S311  a fixed sample

    def alarms(texts: Iterator[str]) -> int:
        return sum(bool(detect.find(text)) for text in texts)

    count = 3000
    digests = (hashlib.sha256(chooser.randbytes(8)).hexdigest() for _ in range(count))
    uuids = (str(uuid.UUID(int=chooser.getrandbits(128))) for _ in range(count))
    seconds = (str(chooser.randrange(1_600_000_000, 1_900_000_000)) for _ in range(count))
    millis = (str(chooser.randrange(16 * 10**11, 19 * 10**11)) for _ in range(count))
    nine = (str(chooser.randrange(10**8, 10**9)) for _ in range(count))
    ten = (str(chooser.randrange(10**9, 10**10)) for _ in range(count))
    eleven = (str(chooser.randrange(10**10, 10**11)) for _ in range(count))
    floats = (" ".join(f"{chooser.gauss(0, 1):.6f}" for _ in range(8)) for _ in range(count))

    assert alarms(digests) == 0
    assert alarms(uuids) <= count // 500
    assert alarms(seconds) == 0
    assert alarms(millis) <= count // 200
    assert alarms(nine) == 0
    assert alarms(ten) == 0
    assert alarms(eleven) <= count // 12  # check digits of one in ten or a hundred
    assert alarms(floats) == 0
