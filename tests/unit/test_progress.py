"""A bar on a terminal, nothing anywhere else."""

import io
import sys

import pytest

from secureml._progress import progress


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is no terminal, nothing is written and tqdm is not loaded for it."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setitem(sys.modules, "tqdm", None)

    with progress("hashing", total=10) as advance:
        advance(10)

    assert file.getvalue() == ""


def test_no_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without stderr, such as a Windows service, gets no bar and no error."""
    monkeypatch.setattr(sys, "stderr", None)

    with progress("hashing", total=None) as advance:
        advance(1)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the bar counts what was done and is cleared at the end."""
    tqdm = pytest.importorskip("tqdm")
    bars = []

    class Bar(tqdm.tqdm):  # type: ignore[misc,name-defined]
        """A bar that is remembered, and starts no thread to watch it."""

        monitor_interval = 0

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(tqdm, "tqdm", Bar)

    with progress("hashing", total=2048) as advance:
        assert advance(1024) is None  # type: ignore[func-returns-value]
        advance(1024)

    assert [(bar.n, bar.total, bar.desc, bar.leave) for bar in bars] == [
        (2048, 2048, "hashing", False)
    ]


def test_an_error_inside_closes_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the block raises comes out as it is."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    pytest.importorskip("tqdm")

    with pytest.raises(KeyError, match="x"), progress("hashing", total=None, unit="rows"):
        raise KeyError("x")
