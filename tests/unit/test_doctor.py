"""The doctor finds what is wrong, says what to do, changes nothing and is quick."""

import base64
import hashlib
import json
import os
import sys
import time
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from secureml import doctor, keys
from secureml.doctor import Check, Report, diagnose

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")


def distribution(where: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Write an installed distribution with its record, and return its package directory."""
    info = where / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for path, data in files.items():
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    return where / "secureml"


def find(where: Path, name: str) -> metadata.Distribution:
    """Return the distribution *name* that is installed at *where*."""
    return next(iter(metadata.distributions(name=name, path=[str(where)])))


def workspace(at: Path) -> Path:
    """Write what the doctor looks at in a workspace."""
    root = at / "ws"
    (root / "log").mkdir(parents=True)
    (root / "log" / "checkpoint").write_text("log.example\n")
    (root / "trust.toml").write_text("version = 1\n")
    private = at / "ws.private"
    (private / "keys").mkdir(parents=True)
    for folder in (private, private / "keys"):
        folder.chmod(0o700)
    (private / ".gitignore").write_text("*\n")
    keys.create(private / "keys" / "log.pem", scheme="ed25519")
    keys.create(private / "keys" / "statements.pem", passphrase="correct horse")  # noqa: S106  a test's
    return root


def bad(report: Report) -> list[Check]:
    """Return what needs attention."""
    return [check for check in report.checks if not check.ok]


def test_this_installation_is_well() -> None:
    """Where the tests run, nothing needs attention but what the platform lacks."""
    allowed = set() if os.name == "posix" else {"writing logs"}

    assert {c.name for c in bad(diagnose())} - {"SHA-256"} <= allowed


def test_it_is_quick() -> None:
    """A diagnosis takes less than 300 ms of CPU, imports of what it tries included."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        diagnose()
        best = min(best, time.process_time() - start)

    assert best < 0.3


def test_a_whole_run_is_quick(bare: Callable[[str], str]) -> None:
    """In a fresh process, too, a diagnosis takes less than 300 ms of CPU."""
    code = (
        "import time; from secureml.doctor import diagnose; start = time.process_time(); "
        "diagnose(); print(time.process_time() - start)"
    )

    assert min(float(bare(code)) for _ in range(3)) < 0.3


def test_what_is_bad_has_a_fix(tmp_path: Path) -> None:
    """Every check that is not ok says what to do."""
    assert all(check.fix for check in bad(diagnose(tmp_path / "nothing")))


def test_the_other_project_is_found(tmp_path: Path) -> None:
    """Another distribution named secureml is named, with the way out."""
    distribution(tmp_path, "secureml", "0.3.1", {"secureml/__init__.py": b"theirs"})

    (check,) = doctor._collision(path=[str(tmp_path)])

    assert not check.ok
    assert "'secureml' 0.3.1" in check.found
    assert "pip uninstall secureml" in check.fix


def test_our_own_name_is_no_collision(tmp_path: Path) -> None:
    """Our own distribution is not taken for the other one."""
    distribution(tmp_path, "secureml-sdk", "0.1.0", {"secureml/__init__.py": b"ours"})

    (check,) = doctor._collision(path=[str(tmp_path)])

    assert check.ok


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_overwritten_files_are_found(tmp_path: Path, order: str) -> None:
    """Whichever was installed first, files that are not what we installed are named."""
    ours = {"secureml/__init__.py": b"ours", "secureml/clock.py": b"ours"}
    theirs = {"secureml/__init__.py": b"theirs", "secureml/privacy.py": b"theirs"}
    both = [("secureml-sdk", "0.1.0", ours), ("secureml", "0.3.1", theirs)]
    for name, version, files in both if order == "ours first" else reversed(both):
        package = distribution(tmp_path, name, version, files)

    check = doctor._compare(package.resolve(), find(tmp_path, "secureml-sdk"))

    assert not check.ok
    assert "privacy.py (not ours)" in check.found
    assert ("__init__.py (changed)" in check.found) == (order == "ours first")


def test_missing_files_are_found(tmp_path: Path) -> None:
    """A file that was installed and is gone is named."""
    files = {"secureml/__init__.py": b"ours", "secureml/clock.py": b"ours"}
    package = distribution(tmp_path, "secureml-sdk", "0.1.0", files)
    (package / "clock.py").unlink()

    check = doctor._compare(package.resolve(), find(tmp_path, "secureml-sdk"))

    assert (check.ok, "clock.py (missing)" in check.found) == (False, True)


def test_untouched_files_are_well(tmp_path: Path) -> None:
    """Files as they were installed are counted, caches of the interpreter left out."""
    package = distribution(tmp_path, "secureml-sdk", "0.1.0", {"secureml/__init__.py": b"ours"})
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"")

    check = doctor._compare(package.resolve(), find(tmp_path, "secureml-sdk"))

    assert check == Check(
        name="files", ok=True, found="secureml-sdk 0.1.0, 1 files as they were installed"
    )


def test_another_copy_is_found(tmp_path: Path) -> None:
    """An import that finds another copy than the installed one is named."""
    distribution(tmp_path / "site", "secureml-sdk", "0.1.0", {"secureml/__init__.py": b"ours"})
    other = tmp_path / "cwd" / "secureml"
    other.mkdir(parents=True)
    (other / "__init__.py").write_bytes(b"a copy")

    check = doctor._compare(other.resolve(), find(tmp_path / "site", "secureml-sdk"))

    assert not check.ok
    assert str(other.resolve()) in check.found


def test_an_editable_install_has_no_record(tmp_path: Path) -> None:
    """An editable install is said to be one, and is not a fault."""
    distribution(tmp_path, "secureml-sdk", "0.1.0", {"_secureml_sdk.pth": b"/src"})

    check = doctor._compare(tmp_path / "src", find(tmp_path, "secureml-sdk"))

    assert check.ok
    assert "editable" in check.found


def test_the_versions_are_those_of_the_metadata(project: Path) -> None:
    """What the doctor asks of the core libraries is what pyproject.toml requires."""
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {f"{name}>={'.'.join(map(str, v))}" for name, v in doctor.CORE.items()}

    assert wanted == set(table["dependencies"])
    assert table["requires-python"] == f">={'.'.join(map(str, doctor.PYTHON))}"


@pytest.mark.parametrize(
    ("version", "ok"),
    [("43.0.3", False), ("44", True), ("44.0.0", True), ("100.1", True), ("9.9", False)],
)
def test_versions_are_compared_as_numbers(
    version: str,
    *,
    ok: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old library is named with the version that is needed; 100 is newer than 44."""
    monkeypatch.setattr(doctor, "CORE", {"cryptography": (44,)})
    monkeypatch.setattr(metadata, "version", lambda _: version)

    (check,) = doctor._core()

    assert check.ok is ok
    assert bool(check.fix) is not ok


def test_a_missing_core_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core library that is gone is a fault with its install line."""
    monkeypatch.setattr(doctor, "CORE", {"no-such-library-here": (1, 2)})

    (check,) = doctor._core()

    assert (check.ok, check.found) == (False, "not installed")
    assert check.fix == "pip install --upgrade 'no-such-library-here>=1.2'"


def test_an_early_clock_is_found() -> None:
    """A clock from before this release was made is wrong."""
    (check,) = doctor._clock(lambda: datetime(2025, 12, 31, 23, 59, tzinfo=UTC))

    assert not check.ok
    assert "before this release" in check.found


def test_a_clock_that_runs_back_is_found() -> None:
    """A clock that runs backwards is wrong."""
    times = iter(datetime(2026, 11, 22, tzinfo=UTC) - timedelta(seconds=n) for n in range(999))

    checks = list(doctor._clock(lambda: next(times)))

    assert [check.ok for check in checks] == [True, False]


def test_a_missing_extra_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra that is not there is said to be absent, with its install line, and is ok."""
    monkeypatch.setattr(doctor, "EXTRAS", {"no_such_library_here": "data"})

    (check,) = doctor._extras()

    assert check.ok
    assert check.fix == "pip install 'secureml-sdk[data]'"


def test_fips_never_crashes() -> None:
    """Whatever the interpreter knows of FIPS, the answer is a check."""
    on = SimpleNamespace(get_fips_mode=lambda: 1)

    assert doctor._fips(on).found == "on"  # type: ignore[arg-type]
    assert doctor._fips(SimpleNamespace()).found.startswith("unknown")  # type: ignore[arg-type]
    assert doctor._fips().ok


def test_a_broken_library_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """When signing fails, whatever the reason, the doctor says so instead of failing too."""

    def broken(scheme: str) -> None:
        raise RuntimeError(f"{scheme} is disabled")

    monkeypatch.setattr(keys, "generate", broken)

    check = doctor._signing()

    assert not check.ok
    assert "ecdsa-p256 is disabled" in check.found


def test_no_locks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where logs cannot be written, the doctor says so, and what works there."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(doctor.util, "find_spec", lambda _: None)

    check = doctor._locking()

    assert not check.ok
    assert "hashing, verifying and loading work here" in check.fix


@posix
def test_a_good_workspace_is_well(tmp_path: Path) -> None:
    """A workspace as `open` makes it is well, and its development keys are named."""
    report = diagnose(workspace(tmp_path))
    found = {check.name: check for check in report.checks}

    assert "private half" not in {check.name for check in bad(report)}
    assert "development key" in found["key log"].found
    assert found["key statements"].found == "protected by a passphrase"


@posix
@pytest.mark.parametrize("name", ["ws.private", "ws.private/keys", "ws.private/keys/log.pem"])
def test_open_modes_are_found(tmp_path: Path, name: str) -> None:
    """A private directory or key that others may open is named, with its mode."""
    root = workspace(tmp_path)
    (tmp_path / name).chmod(0o755)

    found = [check for check in bad(diagnose(root)) if check.name == "private half"]

    assert len(found) == 1
    assert f"{tmp_path / name} (0755)" in found[0].found
    assert "chmod -R go=" in found[0].fix


@posix
def test_a_missing_gitignore_is_found(tmp_path: Path) -> None:
    """Without its .gitignore a private directory is one ``git add`` from being published."""
    root = workspace(tmp_path)
    (tmp_path / "ws.private" / ".gitignore").unlink()

    found = [check for check in bad(diagnose(root)) if check.name == "private half"]

    assert len(found) == 1
    assert ".gitignore" in found[0].found


def test_a_shipped_copy_needs_no_private_half(tmp_path: Path) -> None:
    """Evidence without its private half is fine: it is what people ship."""
    root = workspace(tmp_path)
    (tmp_path / "ws.private").rename(tmp_path / "elsewhere")

    checks = {check.name: check for check in diagnose(root).checks}

    assert checks["private half"].ok
    assert "can be verified" in checks["private half"].found


def test_a_checkpoint_from_the_future_is_found(tmp_path: Path) -> None:
    """A checkpoint that was written later than now means that a clock is wrong."""
    root = workspace(tmp_path)
    (root / "log" / "checkpoint").write_text("x")
    os.utime(root / "log" / "checkpoint", (time.time() + 3600,) * 2)

    assert "clock" in {check.name for check in bad(diagnose(root))}


def test_no_workspace_is_said(tmp_path: Path) -> None:
    """A directory that is no workspace is named, and nothing is made there."""
    report = diagnose(tmp_path / "nothing")

    assert "workspace" in {check.name for check in bad(report)}
    assert list(tmp_path.iterdir()) == []


def test_a_diagnosis_changes_nothing(tmp_path: Path) -> None:
    """No file is made, changed or touched."""
    root = workspace(tmp_path)
    before = {p: (p.lstat().st_mtime_ns, p.lstat().st_mode) for p in tmp_path.rglob("*")}

    diagnose(root)

    assert before == {p: (p.lstat().st_mtime_ns, p.lstat().st_mode) for p in tmp_path.rglob("*")}


def test_a_report_is_shown_three_ways() -> None:
    """A report is text, JSON and escaped HTML, and says how many checks need attention."""
    report = Report(
        (
            Check(name="a", ok=True, found="well"),
            Check(name="<b>", ok=False, found="ill", fix="rest"),
            Check(name="c", ok=True, found="absent", fix="install it"),
        )
    )

    assert str(report) == (
        "ok   a: well\nBAD  <b>: ill\n     fix: rest\nok   c: absent\n"
        "     to change it: install it\n1 of 3 checks need attention"
    )
    assert json.loads(json.dumps(report.to_dict()))["checks"][1]["fix"] == "rest"
    assert report.to_dict()["ok"] is False
    assert "&lt;b&gt;" in report._repr_html_()
    assert "<b>" not in report._repr_html_()
    assert str(Report(())) == "all is well"
