"""
What is wrong with this installation, this machine, or this workspace; and what to do.

`diagnose` looks and changes nothing.  It asks first for the fault that breaks
everything else: another distribution named ``secureml`` owns the same import
name, so installing it after this one overwrites our files, and removing it
then deletes them, without a word from pip.
"""

import base64
import csv
import hashlib
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata, util
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from secureml import clock
from secureml._extras import EXTRAS
from secureml._html import grid
from secureml.errors import SecureMLError

__all__ = ["Check", "Report", "diagnose"]

DISTRIBUTION = "secureml-sdk"
CORE = {"cryptography": (44,), "pydantic": (2, 10), "tqdm": (4, 66)}
PYTHON = (3, 11)
BUILT = datetime(2026, 1, 1, tzinfo=UTC)
SLOW = 100.0
_FEW = 3
_REINSTALL = (
    "pip uninstall secureml; pip install --force-reinstall secureml-sdk  (from a checkout: pip "
    "install --force-reinstall .)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One thing that was looked at.

    Attributes:
        name: What, a few words.
        ok: Whether it is as it should be.
        found: What was found.
        fix: What to do; empty when there is nothing to do.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """
    Everything that was looked at.

    Attributes:
        checks: One by one, in the order they were made.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is as it should be."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values, as ``--json`` prints it."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        lines: list[str] = []
        for check in self.checks:
            lines.append(f"{'ok  ' if check.ok else 'BAD '} {check.name}: {check.found}")
            if check.fix:
                lines.append(f"     {'fix' if not check.ok else 'to change it'}: {check.fix}")
        bad = sum(not check.ok for check in self.checks)
        lines.append(
            f"{bad} of {len(self.checks)} checks need attention" if bad else "all is well"
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [("ok" if c.ok else "BAD", c.name, c.found, c.fix) for c in self.checks]
        return grid("secureml doctor", ("", "check", "found", "what to do"), rows)


def diagnose(directory: str | os.PathLike[str] | None = None) -> Report:
    """
    Look at the installation and the machine, and at the workspace at *directory* when given.

    Reads only; takes less than a third of a second.  What it finds is in the
    report: it does not raise.
    """
    checks = [
        *_collision(),
        *_files(),
        _python(),
        *_core(),
        _signing(),
        *_extras(),
        *_clock(clock.now),
        _speed(),
        _locking(),
        _fips(),
    ]
    if directory is not None:
        checks += _workspace(Path(directory))
    return Report(tuple(checks))


def _collision(name: str = "secureml", path: Sequence[str] | None = None) -> Iterator[Check]:
    """Look for the other project's distribution, on ``sys.path`` or on *path*."""
    found = list(
        metadata.distributions(name=name)
        if path is None
        else metadata.distributions(name=name, path=list(path))
    )
    if not found:
        yield Check(name="name", ok=True, found="no other distribution owns the name 'secureml'")
    for other in found:
        yield Check(
            name="name",
            ok=False,
            found=f"the distribution 'secureml' {other.version} is installed, another project "
            "that owns the same import name: its files and ours overwrite each other",
            fix=_REINSTALL,
        )


def _files() -> Iterator[Check]:
    """Compare the files of our package with what was installed."""
    package = Path(__file__).resolve().parent
    try:
        ours = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Check(
            name="files",
            ok=True,
            found=f"{DISTRIBUTION} is not installed; it runs from its sources in {package}",
            fix="pip install .  (in the checkout), to have it checked against its record",
        )
        return
    yield _compare(package, ours)


def _compare(package: Path, ours: metadata.Distribution) -> Check:
    """Compare the files below *package* with the record of the distribution *ours*."""
    # Read directly: `Distribution.files` leaves out, from Python 3.12 on, what is missing.
    recorded = {
        Path(str(ours.locate_file(name))).resolve(): digest.removeprefix("sha256=")
        for name, digest, *_ in csv.reader((ours.read_text("RECORD") or "").splitlines())
        if digest.startswith("sha256=") and name.startswith("secureml/")
    }
    if not recorded:
        return Check(
            name="files",
            ok=True,
            found=f"installed in editable mode from {package}: no record to compare with",
        )
    here = {p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    if not here & set(recorded):
        return Check(
            name="files",
            ok=False,
            found=f"'import secureml' finds {package}, which is not where {DISTRIBUTION} "
            f"{ours.version} is installed",
            fix="remove the other copy from sys.path (PYTHONPATH, the current directory), or "
            "uninstall one of the two",
        )
    wrong = sorted(
        f"{path.relative_to(package)} ({why})"
        for path, why in [
            *((p, "changed") for p in here & set(recorded) if _sha256(p) != recorded[p]),
            *((p, "not ours") for p in here - set(recorded)),
            *((p, "missing") for p in set(recorded) - here if package in p.parents),
        ]
    )
    if wrong:
        return Check(
            name="files",
            ok=False,
            found=f"{len(wrong)} files differ from what was installed: {_some(wrong)}",
            fix=_REINSTALL,
        )
    return Check(
        name="files",
        ok=True,
        found=f"{DISTRIBUTION} {ours.version}, {len(recorded)} files as they were installed",
    )


def _sha256(path: Path) -> str:
    """Return the digest of a file as RECORD spells it."""
    return (
        base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    )


def _some(names: list[str]) -> str:
    """Return the first few of *names*."""
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if names[_FEW:] else "")


def _python() -> Check:
    return Check(
        name="Python",
        ok=sys.version_info >= PYTHON,
        found=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        fix="" if sys.version_info >= PYTHON else "use Python 3.11 or later",
    )


def _core() -> Iterator[Check]:
    """Look for what secureml cannot do without, and how old it is."""
    for name, least in CORE.items():
        wanted = ".".join(map(str, least))
        fix = f"pip install --upgrade '{name}>={wanted}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name=name, ok=False, found="not installed", fix=fix)
            continue
        new_enough = tuple(int(n) for n in re.findall(r"\d+", version)[: len(least)]) >= least
        found = version if new_enough else f"{version}, older than {wanted}"
        yield Check(name=name, ok=new_enough, found=found, fix="" if new_enough else fix)


def _signing() -> Check:
    """Sign and verify once with each kind of key that a workspace uses."""
    try:
        from secureml import keys

        for scheme in ("ecdsa-p256", "ed25519"):
            signer = keys.generate(scheme)
            signature = signer.sign(b"doctor", purpose="statements")
            signer.verifier.verify(signature, b"doctor")
    except Exception as error:  # noqa: BLE001  whatever is wrong is the finding
        return Check(
            name="signing",
            ok=False,
            found=f"a test signature failed: {type(error).__name__}: {error}".splitlines()[0],
            fix="pip install --force-reinstall cryptography; in FIPS mode, OpenSSL has to allow "
            "ECDSA and Ed25519",
        )
    return Check(name="signing", ok=True, found="ECDSA P-256 and Ed25519 sign and verify")


def _extras() -> Iterator[Check]:
    """Say which optional libraries are there; none has to be."""
    for name, extra in EXTRAS.items():
        there = util.find_spec(name) is not None
        distribution = "scikit-learn" if name == "sklearn" else name
        yield Check(
            name=f"extra {name}",
            ok=True,
            found=_version(distribution) if there else "not installed; only needed when used",
            fix="" if there else f"pip install 'secureml-sdk[{extra}]'",
        )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "present, of unknown version"


def _clock(now: clock.Clock) -> Iterator[Check]:
    """Compare the clock with the time this release was made, and with itself."""
    fix = "set the clock (chrony, systemd-timesyncd, w32tm /resync); times in records come from it"
    readings = [now() for _ in range(200)]
    early = readings[0] < BUILT
    yield Check(
        name="clock",
        ok=not early,
        found=clock.format_time(readings[0])
        + (", which is before this release was made" if early else ""),
        fix=fix if early else "",
    )
    back = any(later < earlier for earlier, later in pairwise(readings))
    if back:
        yield Check(name="clock", ok=False, found="it ran backwards while it was read", fix=fix)


def _speed(size: int = 1 << 23) -> Check:
    """Hash *size* bytes, twice, and take the better time."""
    block = bytes(size)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        hashlib.sha256(block).digest()
        best = min(best, time.perf_counter() - start)
    speed = size / best / 1e6
    return Check(
        name="SHA-256",
        ok=speed >= SLOW,
        found=f"{speed:,.0f} MB/s on one core",
        fix=""
        if speed >= SLOW
        else "use a Python whose OpenSSL has assembly code for this processor; hashing will work, "
        "slowly",
    )


def _locking() -> Check:
    there = util.find_spec("fcntl") is not None
    return Check(
        name="writing logs",
        ok=there,
        found="supported" if there else f"not supported on {platform.system()}: no fcntl.flock",
        fix=""
        if there
        else "write logs on Linux or macOS; hashing, verifying and loading work here",
    )


def _fips(backend: ModuleType | None = None) -> Check:
    """Say whether OpenSSL runs in FIPS mode; SHA-256 and ECDSA are allowed there."""
    try:
        import _hashlib

        mode = bool((backend or _hashlib).get_fips_mode())
    except (ImportError, AttributeError, ValueError) as error:
        return Check(name="FIPS", ok=True, found=f"unknown ({error})")
    return Check(name="FIPS", ok=True, found="on" if mode else "off")


def _workspace(directory: Path) -> list[Check]:
    """Look at the private half of the workspace at *directory*: who may read the keys."""
    try:
        from secureml.workspace.layout import Layout, is_workspace
    except Exception as error:  # noqa: BLE001  a broken installation was named above
        found = f"cannot be looked at: {type(error).__name__}: {error}"
        return [Check(name="workspace", ok=False, found=found, fix=_REINSTALL)]

    if not is_workspace(directory):
        return [
            Check(
                name="workspace",
                ok=False,
                found=f"{str(directory)!r} is no evidence directory: it has no trust.toml and log",
                fix="give the directory that secureml.open was given",
            )
        ]
    layout = Layout.of(directory)
    checks = [Check(name="workspace", ok=True, found=str(layout.root)), *_future(layout.root)]
    if not layout.private.is_dir():
        checks.append(
            Check(
                name="private half",
                ok=True,
                found=f"{str(layout.private)!r} is not here: this copy can be verified, not "
                "written to",
            )
        )
        return checks
    return [*checks, *_modes(layout.private), *_keys(layout.private)]


def _future(root: Path) -> Iterator[Check]:
    """Compare the clock with the last checkpoints that were written."""
    for name in ("log", "audit"):
        path = root / name / "checkpoint"
        if path.is_file() and path.stat().st_mtime > time.time() + 300:
            yield Check(
                name="clock",
                ok=False,
                found=f"{str(path)!r} was written in the future: one of the two clocks is wrong",
                fix="set the clock before anything is appended",
            )


def _modes(private: Path) -> Iterator[Check]:
    """Say which private paths the group or others may open."""
    if os.name != "posix":
        yield Check(
            name="private half",
            ok=True,
            found="file modes say nothing on this system",
            fix=f"make sure that only you may open {str(private)!r}",
        )
        return
    paths = [private, *sorted(p for p in private.rglob("*") if _matters(p))]
    wide = [p for p in paths if stat.S_IMODE(p.lstat().st_mode) & 0o077]
    if wide:
        yield Check(
            name="private half",
            ok=False,
            found="others may open "
            + _some([f"{p} ({stat.S_IMODE(p.lstat().st_mode):04o})" for p in wide]),
            fix=f"chmod -R go= {private}; if others may have read a key, replace it "
            "(Workspace.rotate)",
        )
    else:
        yield Check(name="private half", ok=True, found=f"{len(paths)} paths, none open to others")
    if not (private / ".gitignore").is_file():
        yield Check(
            name="private half",
            ok=False,
            found="it has no .gitignore, so 'git add' would take the keys along",
            fix=f"echo '*' > {private / '.gitignore'}",
        )


def _matters(path: Path) -> bool:
    """Tell whether *path* is a folder of keys or a private key."""
    return path.name == "keys" or (path.suffix == ".pem" and path.parent.name == "keys")


def _keys(private: Path) -> Iterator[Check]:
    """Say which keys are not protected by a passphrase."""
    from secureml import keys

    for path in sorted((private / "keys").glob("*.pem")):
        try:
            locked = keys.is_encrypted(path)
        except SecureMLError as error:
            yield Check(name=f"key {path.stem}", ok=False, found=error.why, fix=error.fix)
            continue
        yield Check(
            name=f"key {path.stem}",
            ok=True,
            found="protected by a passphrase"
            if locked
            else "a development key: whoever reads the file can sign",
            fix="" if locked else "replace it with Workspace.rotate(passphrase=...)",
        )
