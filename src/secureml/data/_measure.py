"""
One pass over the data: what is hashed is what the checks see.

Each batch is brought into its canonical form once; that form is hashed, and
the same form is handed to every check.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from secureml._extras import require
from secureml._progress import progress
from secureml.data._tables import Stream
from secureml.data.rows import Arrow, Rows
from secureml.errors import DigestMismatchError, FormatError, StoreError, UnexpectedFileError
from secureml.gates.check import Check, Finding, State, check_name, checked, not_made
from secureml.hashing import _arrow
from secureml.hashing.table import TableHasher
from secureml.wire.manifest import Entry

__all__ = ["Pass", "feed", "registered"]


class Pass:
    """
    The states of all checks, fed part by part.

    Args:
        checks: What is measured.
        kind: ``table`` or ``tree``.

    Raises:
        TypeError, ValueError: Something given is no check.
    """

    def __init__(self, checks: Sequence[Check], *, kind: str) -> None:
        self._checks = tuple(checks)
        self._names = [check_name(check) for check in self._checks]
        self._states: dict[int, State] = {}
        self._needs: dict[int, frozenset[str]] = {}
        self._broken: dict[int, str] = {}
        self._details: dict[int, str] = {}
        for i, check in enumerate(self._checks):
            over = getattr(check, "over", kind)
            if over != kind:
                self._broken[i] = f"it is for a {over}, and the data is a {kind}"
                continue
            with self._guarded(i):
                self._needs[i] = frozenset(check.needs)
                self._states[i] = check.start()

    def update(self, part: Rows | Entry) -> None:
        """Feed one part to every check that still stands."""
        for i, state in list(self._states.items()):
            missing = self._missing(i, part)
            if missing:
                self._broken[i] = f"there is no column {missing[0]!r}"
                del self._states[i]
                continue
            with self._guarded(i):
                state.update(part)

    def finish(self, parts: int) -> list[Finding]:
        """Return one finding for each check; with no *parts*, rows or files, none passes."""
        findings = []
        for i, name in enumerate(self._names):
            found: object = None
            if i in self._states:
                with self._guarded(i):
                    found = self._states[i].finish()
            if i in self._broken:
                found = not_made(name, self._broken[i], detail=self._details.get(i, ""))
            elif not parts and isinstance(found, Finding) and found.passed:
                found = not_made(name, "there is no data")
            findings.extend(checked([name], [found]))
        return findings

    def _missing(self, i: int, part: Rows | Entry) -> list[str]:
        return sorted(self._needs[i] - set(part.names)) if isinstance(part, Rows) else []

    @contextmanager
    def _guarded(self, i: int) -> Iterator[None]:
        """Let an exception in check *i* break that check alone."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  a check is anybody's code
            # The text may quote values: a preview shows it, a log never has it.
            self._broken.setdefault(i, f"{type(error).__name__} was raised")
            self._details.setdefault(i, _text_of(error))
            self._states.pop(i, None)


def _text_of(error: Exception) -> str:
    try:
        return str(error)[:200]
    except Exception:  # noqa: BLE001  an exception is anybody's code too
        return ""


def feed(stream: Stream, hasher: TableHasher, pass_: Pass | None) -> None:
    """Hash the batches of *stream*, and let *pass_* see each as it was hashed."""
    with progress("reading", total=stream.rows, unit=" rows") as advance:
        for batch in stream:
            if pass_ is None:
                hasher.update(batch)
            else:
                canonical = _canonical(batch, hasher.schema)
                start = hasher.rows
                hasher.update(canonical)
                pass_.update(Rows(start, canonical))
            advance(batch.num_rows)


def _canonical(batch: Arrow, schema: Arrow) -> Arrow:
    pa = require("pyarrow", purpose="to check a table")
    try:
        columns = [_arrow.normalise(column) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    except pa.ArrowException as error:
        what = "a batch cannot be brought into its canonical form"
        raise FormatError(
            what,
            why=f"{type(error).__name__}: {error}",
            fix="check the data with pyarrow's validate(full=True)",
        ) from error


@contextmanager
def registered(name: str, path: Path) -> Iterator[None]:
    """Say of data that cannot be read any more that it is not what was registered."""
    try:
        yield
    except FormatError as error:
        raise DigestMismatchError(
            f"dataset {name!r} is not what was registered",
            why=f"it could be read then, and now: {error.what}; {error.why}",
            fix="get the registered data again; if the change is intended, register it again",
        ) from error
    except StoreError as error:
        if path.exists():
            raise
        raise UnexpectedFileError(
            f"{path.name!r} of dataset {name!r} is gone",
            why="it was there when the dataset was registered",
            fix="get it again from where it was copied, and check that its volume is mounted",
        ) from error
