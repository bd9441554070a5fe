"""The trust file: what it says, and how it refuses what it does not understand."""

import copy
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from secureml.errors import FormatError, StoreError
from secureml.evidence.trust import Identity, ModelRule, Trust, identity_block
from secureml.keys import Verifier, generate
from secureml.wire.digest import Digest

KEY, OTHER, THIRD = (generate().verifier for _ in range(3))
DUTIES = frozenset({"dataset", "gate", "run", "model"})
PLAN = Digest.sha256(b"plan")

TEXT = f'''# Reviewed by two people.
version = 1

[[identity]]
name = "training"
roles = ["dataset", "gate", "run", "model"]
development = true
not_before = 2026-01-01T00:00:00Z
not_after = 2027-01-01T01:00:00.5+01:00
retired = {{ "secureml.local/a" = 12 }}
public_key = """
{KEY.pem}"""

[[identity]]
name = "training, log"
roles = ["log"]
origin = "secureml.local/a"
public_key = """
{OTHER.pem}"""

[models."diagnosis"]
require = {{ "train-data@1" = "{PLAN}" }}
max_attempts = 3
allow_ignored = ["README.md"]
allow_types = ["my.Type"]
'''


SECOND = TEXT[: TEXT.rindex("[[identity]]")].count("\n") + 1
RULE = TEXT[: TEXT.index("[models.")].count("\n") + 1


def identity(**values: object) -> Identity:
    """Make an identity, with what the test is not about filled in."""
    return Identity(**{"name": "a", "verifier": KEY, "roles": frozenset({"run"}), **values})  # type: ignore[arg-type]


def test_a_trust_file_is_read() -> None:
    """Each key of the file is where it belongs."""
    trust = Trust.from_toml(TEXT)

    assert trust.identities == (
        Identity(
            name="training",
            verifier=KEY,
            roles=DUTIES,
            development=True,
            not_before=datetime(2026, 1, 1, tzinfo=UTC),
            not_after=datetime(2027, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC),
            retired={"secureml.local/a": 12},
        ),
        Identity(
            name="training, log",
            verifier=OTHER,
            roles=frozenset({"log"}),
            origin="secureml.local/a",
        ),
    )
    assert trust.rules == (
        ModelRule(
            name="diagnosis",
            require={"train-data@1": PLAN},
            max_attempts=3,
            allow_ignored=("README.md",),
            allow_types=("my.Type",),
        ),
    )
    assert trust.development == ("training",)
    assert trust.logs() == {"secureml.local/a": (trust.identities[1],)}
    assert trust.rule("diagnosis") is trust.rules[0]
    assert trust.rule("other") is None


def test_the_digest_is_of_the_text_as_read() -> None:
    """A comment changes the digest, and not the trust."""
    trust, other = Trust.from_toml(TEXT), Trust.from_toml(TEXT + "# one more word\n")

    assert trust.digest.value == hashlib.sha256(TEXT.encode()).digest()
    assert other.digest != trust.digest
    assert other == trust


def test_the_digest_of_a_trust_made_in_memory_is_of_its_toml() -> None:
    """What is written down later has the digest that evidence carries now."""
    trust = Trust((identity(),))

    assert Trust.from_toml(trust.to_toml()).digest == trust.digest


def test_it_is_loaded_from_a_file(tmp_path: Path) -> None:
    """A missing file is not a trust of nobody; bytes that are no text are refused."""
    (tmp_path / "trust.toml").write_bytes(TEXT.encode())
    (tmp_path / "latin.toml").write_bytes("# ä".encode("latin-1"))
    (tmp_path / "large.toml").write_bytes(b"#" * 2_000_000)

    assert Trust.load(tmp_path / "trust.toml") == Trust.from_toml(TEXT)
    for name in ("missing.toml", "."):
        with pytest.raises(StoreError, match="cannot be read"):
            Trust.load(tmp_path / name)
    for name in ("latin.toml", "large.toml"):
        with pytest.raises(FormatError, match="not a trust file"):
            Trust.load(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "key", "why"),
    [
        (("version = 1", "version = 2"), "version", "or equal to 1"),
        (("version = 1", "version = true"), "version", "integer"),
        (("version = 1", 'version = "1"'), "version", "integer"),
        (("version = 1\n", ""), "version", "the key is missing"),
        (("version = 1", "version = 1\nowner = 2"), "owner", "no such key"),
        (("not_after", "not_afetr"), r"identity\[0\].not_afetr .*line 4", "no such key"),
        (('"gate",', '"gates",'), r"identity\[0\] \('training'\)", "gates"),
        (('"gate",', '"gate", "gate",'), r"identity\[0\]", "twice"),
        (('["log"]', "[]"), rf"identity\[1\] \('training, log'\).*line {SECOND}", "one or more"),
        (('["log"]', '"log"'), r"identity\[1\].roles", "valid list"),
        (('["log"]', "[1]"), r"identity\[1\].roles\[0\]", "valid string, got '1'"),
        (("= true", '= "true"'), r"identity\[0\].development", "boolean"),
        (("01T00:00:00Z", "01T00:00:00"), r"identity\[0\].not_before", "timezone"),
        (("2026-01-01T00:00:00Z", "2026-01-01"), r"identity\[0\].not_before", "datetime"),
        (("2026-", "2028-"), r"identity\[0\]", "later than not_after"),
        (("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00"), r"identity\[0\]", "not exist"),
        (("= 12", "= -1"), r'identity\[0\].retired."secureml.local/a"', "greater than"),
        (("= 12", "= true"), r'identity\[0\].retired."secureml.local/a"', "integer"),
        (('{ "secureml.local/a" =', '{ "a b" ='), r"identity\[0\]", "without spaces"),
        (('origin = "secureml.local/a"', 'origin = "a+b"'), r"identity\[1\]", "without spaces"),
        (('roles = ["log"]', 'roles = ["run"]'), r"identity\[1\]", "needs the role log or audit"),
        (
            ('roles = ["log"]\norigin = "secureml.local/a"', 'roles = ["audit"]'),
            r"identity\[1\]",
            "audit needs origin",
        ),
        (('"training, log"', '"training"'), "identity", "two identities named 'training'"),
        (('"training, log"', '" training"'), r"identity\[1\]", "printable"),
        (('"training, log"', '"a\\u202eb"'), r"identity\[1\]", "printable"),
        ((OTHER.pem, KEY.pem), "identity", "two identities with the key 'sha256:"),
        ((OTHER.pem, OTHER.pem[:60]), r"identity\[1\].public_key", "not a public key"),
        ((OTHER.pem, "-----BEGIN PRIVATE KEY-----"), r"identity\[1\].public_key", "private key"),
        (("train-data@1", "train-data"), "models.diagnosis", "name@major"),
        ((str(PLAN), "sha1:00"), 'models.diagnosis.require."train-data@1"', "sha1"),
        ((str(PLAN), str(PLAN)[:-2]), 'models.diagnosis.require."train-data@1"', "31 bytes"),
        ((str(PLAN), f"dirHash:{PLAN.hex}"), "models.diagnosis", "named by its sha256"),
        (("= 3", "= 0"), "models.diagnosis.max_attempts", "greater than"),
        (("= 3", "= 1.5"), "models.diagnosis.max_attempts", "integer"),
        (('["my.Type"]', '[""]'), "models.diagnosis", "none of them empty"),
        (("allow_types", "alow_types"), "models.diagnosis.alow_types", "no such key"),
        (('[models."diagnosis"]', "[[models]]"), "models", "dictionary"),
        (("[models.", "[models"), "TOML", f"line {RULE}"),
        (("max_attempts = 3", "max_attempts = 3\nmax_attempts = 4"), "TOML", "overwrite"),
        (("= 3", "= " + "9" * 5000), "TOML", "digits"),
        (("= 3", "= " + "[" * 5000), "TOML", ""),
        (("two people", "two\ud800people"), "TOML", "surrogates"),
        (("two people", "two\x00people"), "TOML", "line 1"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], key: str, why: str) -> None:
    """A file with one mistake is refused, and the error names the key and what was found."""
    assert change[0] in TEXT

    with pytest.raises(FormatError, match=f"(?s)this is not a trust file: .*{key}.*why:.*{why}"):
        Trust.from_toml(TEXT.replace(*change, 1))


def through_pickle(trust: Trust) -> Trust:
    """Return what comes back from a pickle."""
    same = pickle.loads(pickle.dumps(trust))  # noqa: S301  our own bytes
    assert isinstance(same, Trust)
    return same


@pytest.mark.parametrize("change", [copy.deepcopy, through_pickle])
def test_it_is_a_value(change: Callable[[Trust], Trust]) -> None:
    """A trust survives copying and pickling, digest included."""
    trust = Trust.from_toml(TEXT)
    same = change(trust)

    assert same == trust
    assert hash(same) == hash(trust)
    assert same.digest == trust.digest


def test_it_cannot_be_changed() -> None:
    """A trust that was reviewed stays what it was."""
    given = {"secureml.local/a": 3}
    one = identity(retired=given)
    given["secureml.local/a"] = 99

    assert dict(one.retired) == {"secureml.local/a": 3}
    with pytest.raises(TypeError):
        one.retired["secureml.local/a"] = 99  # type: ignore[index]
    with pytest.raises(TypeError):
        Trust.from_toml(TEXT).rules[0].require["x@1"] = PLAN  # type: ignore[index]


@pytest.mark.parametrize(
    "values",
    [
        {"roles": frozenset()},
        {"roles": "run"},
        {"roles": {"root"}},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 201},
        {"retired": {"a": -1}},
        {"not_before": datetime(2026, 1, 1)},  # noqa: DTZ001  the mistake
        {"origin": "a"},
        {"roles": {"log"}, "origin": ""},
    ],
)
def test_contradictions_are_bugs(values: dict[str, object]) -> None:
    """An identity made in memory obeys the same rules."""
    with pytest.raises(ValueError, match=r"."):
        identity(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"require": {"train-data": PLAN}},
        {"require": {"train-data@1": Digest("dirHash", PLAN.value)}},
        {"max_attempts": 0},
        {"allow_ignored": ("",)},
        {"allow_types": ("\ud800",)},
    ],
)
def test_a_rule_made_in_memory_obeys(values: dict[str, object]) -> None:
    """A rule that could not be written to a file is refused."""
    with pytest.raises(ValueError, match=r"."):
        ModelRule(**{"name": "m", **values})  # type: ignore[arg-type]


def test_a_log_key_without_an_origin_signs_no_checkpoints() -> None:
    """A key may make a log's statements, anchors for instance, and no checkpoints."""
    trust = Trust((identity(roles={"log"}),))

    assert trust.with_role("log") == trust.identities
    assert trust.logs() == {}


@pytest.mark.parametrize(
    ("roles", "expect"),
    [
        ([DUTIES], "none"),
        ([DUTIES | {"log"}, {"gate"}], "none"),
        ([{"dataset"}, {"gate"}, {"run", "model"}], "partial"),
        ([{"dataset"}, {"gate"}, {"run"}], "partial"),
        ([{"log"}], "partial"),
        ([], "partial"),
        ([{"dataset"}, {"gate"}, {"run"}, {"model"}], "full"),
        ([{"dataset", "log"}, {"gate"}, {"run"}, {"model"}, {"model"}], "full"),
    ],
)
def test_separation_of_duties(roles: list[set[str]], expect: str) -> None:
    """One key for all is none; a key for each is full; all else is partial."""
    identities = [
        identity(name=str(n), verifier=generate().verifier, roles=r) for n, r in enumerate(roles)
    ]

    assert Trust(tuple(identities)).separation_of_duties == expect


def test_keys_are_found_by_hint_and_by_fingerprint() -> None:
    """Either name of a key leads to its identity; another name to None."""
    trust = Trust((identity(),))

    assert trust.find(hint=KEY.hint) == trust.identities[0]
    assert trust.find(fingerprint=KEY.fingerprint) == trust.identities[0]
    assert trust.find(hint=KEY.fingerprint) is None
    assert trust.find(fingerprint=OTHER.fingerprint) is None
    with pytest.raises(TypeError):
        trust.find()
    with pytest.raises(TypeError):
        trust.find(hint=KEY.hint, fingerprint=KEY.fingerprint)
    with pytest.raises(ValueError, match="admin"):
        trust.with_role("admin")


def test_merging_adds_keys_and_no_rules() -> None:
    """The other trust adds keys that are new, and changes no rule."""
    rule = ModelRule(name="m", allow_types=("evil.Type",))
    mine = Trust((identity(),), (ModelRule(name="n"),))
    theirs = Trust((identity(name="b", verifier=OTHER),), (rule,))

    merged = mine.merged(theirs)

    assert merged.identities == (*mine.identities, *theirs.identities)
    assert merged.rules == mine.rules
    assert mine.merged(Trust()) == mine


def test_merging_gives_a_known_key_nothing() -> None:
    """For a key in both, roles and name are mine, and validity is the narrower one."""
    early, late = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 6))
    mine = identity(not_before=early, not_after=late, retired={"a": 5, "b": 1})
    theirs = identity(
        name="z",
        roles=DUTIES,
        development=True,
        not_before=late,
        not_after=None,
        retired={"a": 3, "c": 2},
    )

    merged = Trust((mine,)).merged(Trust((theirs,)))

    assert merged.identities == (
        replace(mine, development=True, not_before=late, retired={"a": 3, "b": 1, "c": 2}),
    )


def test_merging_refuses_a_name_for_two_keys() -> None:
    """A report that says a name means one key."""
    with pytest.raises(ValueError, match="two identities named 'a'"):
        Trust((identity(),)).merged(Trust((identity(verifier=OTHER),)))


def test_a_time_is_kept_in_utc() -> None:
    """The same moment in another zone is the same trust."""
    zone = timezone(timedelta(hours=5, minutes=30, seconds=7))
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert identity(not_after=moment.astimezone(zone)) == identity(not_after=moment)
    assert "2026-01-01T00:00:00+00:00" in identity_block(identity(not_after=moment))


def test_a_block_to_paste() -> None:
    """The block that is printed for a new key makes a trust file, fingerprint shown."""
    one = identity(name='quo"te\\', roles={"log", "run"}, origin="secureml.local/ä")

    block = identity_block(one)

    assert f"# fingerprint {KEY.fingerprint}\n" in block
    assert Trust.from_toml("version = 1\n" + block).identities == (one,)


def test_html_is_escaped() -> None:
    """A name in a trust file is text, in a notebook too."""
    one = identity(
        name="<script>",
        roles={"log"},
        origin="o",
        development=True,
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2027, 1, 1, tzinfo=UTC),
        retired={"a": 1},
    )
    html = Trust((one,))._repr_html_()

    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert (
        "development key; signs the log o; from 2026-01-01T00:00:00+00:00; "
        "until 2027-01-01T00:00:00+00:00; retired at leaf 1 of a"
    ) in html


def test_verifiers_in_a_trust_are_the_keys() -> None:
    """A key is itself however its PEM was wrapped in the file."""
    wrapped = TEXT.replace(OTHER.pem, OTHER.pem.replace("\n", "\r\n"))

    assert Trust.from_toml(wrapped).identities[1].verifier == Verifier(OTHER.der)
    assert Trust.from_toml(wrapped.replace(THIRD.pem, "")) == Trust.from_toml(TEXT)
