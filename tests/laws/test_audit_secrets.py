# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""L8: a secret reaches no leaf, no error and no report, and the details only if captured."""

import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml import audit
from secureml.errors import SecureMLError
from secureml.evidence.log import Log
from secureml.keys import files

CANARY = "correct-horse-battery-staple"
FORMS = (CANARY.encode(), CANARY.encode().hex().encode(), CANARY.encode("utf-16-le"))


class OwnError(Exception):
    """An error with a secret in its text."""


class Secretive:
    """Something whose every text form is a secret."""

    def __init__(self) -> None:
        self.id = CANARY

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


def hidden(data: bytes) -> bool:
    """Return whether no form of the secret is in *data*."""
    import base64

    found = any(form in data for form in FORMS)
    for shift in range(3):
        inner = base64.b64encode(b"x" * shift + CANARY.encode())[4:-4]
        found = found or inner in data
    return not found


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Return a directory for audit logs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def opened(root: Path) -> audit.AuditLog:
    """Return an audit log in a directory of its own."""
    place = Path(tempfile.mkdtemp(dir=root))
    log = Log.open(
        place / "audit",
        private=place / "private",
        origin="law.example/audit",
        signer=files.generate("ed25519", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    return audit.AuditLog(log, details=place / "details", private=place / "private")


secrets = st.sampled_from(
    [
        CANARY,
        CANARY.encode(),
        [CANARY],
        {"key": CANARY},
        {CANARY: "key"},
        Secretive(),
        {1: CANARY},
        {"a": [Secretive()]},
        "\ud800" + CANARY,
    ]
)


def errors(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all it is chained to."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@given(
    row=secrets,
    result=secrets,
    user=st.sampled_from([CANARY, Secretive(), [CANARY], None]),
    capture=st.lists(
        st.sampled_from(["row", "row.key", "return", "return.key", "user.id"]), unique=True
    ),
    path=st.sampled_from(["user", "user.id", None]),
    fails=st.booleans(),
)
def test_a_secret_stays_where_it_was_captured(
    root: Path,
    row: Any,
    result: Any,
    user: Any,
    capture: list[str],
    path: str | None,
    fails: bool,  # noqa: FBT001  a test's value
) -> None:
    """Arguments, users, results and error texts stay out of everything but the details."""
    log = opened(root)
    own = OwnError(CANARY)

    def predict(row: object, user: object) -> object:
        if fails:
            raise own
        return result

    wrapped = audit.audited(log, action="law", user=path, capture=capture)(predict)
    texts: list[str] = []
    with audit.collect() as records:
        try:
            wrapped(row, user)
        except (OwnError, TypeError, ValueError, SecureMLError) as error:
            texts += [
                "".join(traceback.format_exception_only(one))
                for one in errors(error)
                if one is not own
            ]
    log.close()

    texts += [repr(records), "".join(record._repr_html_() for record in records)]
    place = log.details.parent
    leaves = list(Log.open(place / "audit").entries()) if (place / "audit").exists() else []
    report = audit.survey_details(audit.check_records(leaves), log.details)
    texts += [repr(report), report._repr_html_()]
    assert hidden("\n".join(texts).encode("utf-8", "surrogatepass"))
    for file in sorted((place / "audit").rglob("*")):
        assert file.is_dir() or hidden(file.read_bytes())
    captured = set().union(*(record.commitments for record in audit.check_records(leaves)))
    if not captured and log.details.exists():
        assert all(hidden(file.read_bytes()) for file in log.details.iterdir())


@pytest.mark.parametrize("where", ["row", "return", "yield"])
def test_a_captured_secret_is_in_the_details_only(root: Path, where: str) -> None:
    """A captured value lies beside the log, and the log holds nothing of it."""
    log = opened(root)

    @audit.audited(log, action="law", capture=[where])
    def predict(row: str) -> Iterator[str]:
        yield row
        return row

    list(predict(CANARY))
    log.close()

    place = log.details.parent
    (record,) = (
        r for r in audit.check_records(Log.open(place / "audit").entries()) if r.type == "call"
    )
    assert CANARY in str(audit.open_value(record, log.details, where))
    for file in sorted((place / "audit").rglob("*")):
        assert file.is_dir() or hidden(file.read_bytes())


def test_equal_values_have_different_commitments(root: Path) -> None:
    """Nobody can see from the log that two calls were about the same value."""
    log = opened(root)

    @audit.audited(log, action="law", capture=["a", "b"])
    def predict(a: bool, b: bool) -> None: ...  # noqa: FBT001  a test's value

    for _ in range(20):
        predict(True, True)  # noqa: FBT003  the values

    found = [c for _, r in log.records() for c in r.commitments.values()]
    log.close()
    assert 40 == len(set(found)) == len(found)
