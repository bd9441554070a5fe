"""Laws of trust files."""

import contextlib
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import FormatError
from secureml.evidence.trust import ROLES, Identity, ModelRule, Trust
from secureml.keys import generate
from secureml.wire.digest import Digest

VERIFIERS = [generate(scheme).verifier for scheme in ("ecdsa-p256", "ed25519", "ecdsa-p521") * 2]

visible = st.characters(categories=["L", "N", "P", "S"])
names = st.text(visible, min_size=1, max_size=30)
origins = names.map(lambda name: name.replace("+", "-"))
times = st.none() | st.integers(-(2**31), 2**33).map(lambda n: datetime.fromtimestamp(n, UTC))
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def identities(draw: st.DrawFn, number: int) -> Identity:
    """Draw the identity of one of `VERIFIERS`."""
    roles = draw(st.sets(st.sampled_from(ROLES), min_size=1))
    times_ = sorted(filter(None, (draw(times), draw(times))))
    logs = bool(roles & {"log", "audit"})
    return Identity(
        name=f"{number} {draw(names)}",
        verifier=VERIFIERS[number],
        roles=frozenset(roles),
        development=draw(st.booleans()),
        not_before=times_[0] if times_ else None,
        not_after=times_[1] if len(times_) == 2 else None,
        retired=draw(st.dictionaries(origins, st.integers(0, 2**53), max_size=3)),
        origin=draw(origins if "audit" in roles else st.none() | origins) if logs else None,
    )


rules = st.builds(
    ModelRule,
    name=names,
    require=st.dictionaries(
        st.from_regex(r"[a-z.\"'-]{1,9}@[1-9]", fullmatch=True),
        st.binary(max_size=2).map(Digest.sha256),
        max_size=2,
    ),
    max_attempts=st.none() | st.integers(1, 9),
    allow_ignored=st.lists(words, max_size=2).map(tuple),
    allow_types=st.lists(words, max_size=2).map(tuple),
)


@st.composite
def trusts(draw: st.DrawFn) -> Trust:
    """Draw a trust."""
    count = draw(st.integers(0, len(VERIFIERS)))
    return Trust(
        tuple(draw(identities(number)) for number in range(count)),
        tuple(draw(st.lists(rules, max_size=3, unique_by=lambda rule: rule.name))),
    )


@given(trusts())
def test_what_is_written_is_read(trust: Trust) -> None:
    """`from_toml` reads from `to_toml` the same trust, with the same digest."""
    read = Trust.from_toml(trust.to_toml())

    assert read == trust
    assert read.digest == trust.digest
    assert read.to_toml() == trust.to_toml()


@given(trusts(), trusts())
def test_merging_widens_nothing(mine: Trust, theirs: Trust) -> None:
    """Merging keeps each identity of mine in its roles, never valid for longer, and my rules."""
    try:
        merged = mine.merged(theirs)
    except ValueError:
        return

    assert merged.rules == mine.rules
    for before, after in zip(mine.identities, merged.identities, strict=False):
        assert (after.name, after.roles, after.origin) == (
            before.name,
            before.roles,
            before.origin,
        )
        for origin, index in before.retired.items():
            assert after.retired[origin] <= index
        if before.not_after is not None:
            assert after.not_after is not None
            assert after.not_after <= before.not_after


@given(trusts(), st.data())
def test_damaged_text_is_refused_or_read(trust: Trust, data: st.DataObject) -> None:
    """A trust file with one character changed is read, or is a format error; nothing else."""
    text = trust.to_toml()
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters()) + text[place + 1 :]

    with contextlib.suppress(FormatError):
        Trust.from_toml(changed)


@given(st.text(max_size=80))
def test_any_text_is_refused_or_read(text: str) -> None:
    """Arbitrary text after the version is a trust file, or a format error."""
    with contextlib.suppress(FormatError):
        Trust.from_toml("version = 1\n" + text)
