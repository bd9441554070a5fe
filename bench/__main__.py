"""
Measure everything, and write ``docs/performance.md``: ``python bench [--print]``.

Each ``bench_*.py`` beside this file has a function ``rows()``; each row is one
comparison with its ``name``, ``ours``, ``peer``, ``ratio``, ``unit`` and
``note``.  What counts is the ratio: both sides ran here, on the same bytes.
"""

import argparse
import importlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
LIBRARIES = ("cryptography", "pyarrow", "numpy", "pandas")
BUDGETS = (
    ("hashing 1 GiB, against `hashlib.sha256` on one core", "at most 1.10"),
    ("10,000 files of 4 KiB, against a plain loop", "at most 2.00"),
    ("`import secureml`, over a bare interpreter", "less than 30 ms of CPU"),
)


def main() -> None:
    """Run every benchmark and write, or print, the page."""
    parser = argparse.ArgumentParser(description="Measure, and write docs/performance.md.")
    parser.add_argument("--print", action="store_true", help="print the page, write nothing")
    parser.add_argument("--only", default="", help="benchmarks whose file name contains this")
    options = parser.parse_args()

    sys.path.insert(0, str(HERE))
    tables: list[str] = []
    for path in sorted(HERE.glob("bench_*.py")):
        if options.only in path.stem:
            module = importlib.import_module(path.stem)
            title = path.stem.removeprefix("bench_").replace("_", " ").capitalize()
            tables += [f"## {title}", "", *_table(module.rows()), ""]
    page = "\n".join([*_head(), *tables])
    if options.print or options.only:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")
        print(f"wrote {PAGE}")


def _head() -> list[str]:
    """Return what was measured where."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return [
        "# Performance",
        "",
        "Written by `nox -s bench`. Ratios count, not seconds: in each line both sides ran on",
        "this machine, in turns, on the same bytes, and the best of several turns was taken. A",
        "ratio of 1 is as fast as the plainest way to do the same; less is faster.",
        "",
        "| | |",
        "|---|---|",
        f"| processor | {_processor()}, {os.cpu_count()} cores |",
        f"| system | {platform.system()} {platform.release()}, {platform.machine()} |",
        f"| Python | {platform.python_version()} |",
        f"| libraries | {libraries} |",
        f"| OpenSSL | {_openssl()} |",
        "",
        "## Budgets",
        "",
        "| what | budget |",
        "|---|---|",
        *(f"| {what} | {budget} |" for what, budget in BUDGETS),
        "",
    ]


def _table(rows: list[dict[str, object]]) -> list[str]:
    """Return *rows* as a table."""
    lines = ["| comparison | ours | peer | ratio | |", "|---|---:|---:|---:|---|"]
    for row in rows:
        ours, peer, ratio = (float(str(row[key])) for key in ("ours", "peer", "ratio"))
        unit = row["unit"]
        lines.append(
            f"| {row['name']} | {_figure(ours)} {unit} | {_figure(peer)} {unit} | **{ratio:.2f}** "
            f"| {row['note']} |"
        )
    return lines


def _figure(number: float) -> str:
    """Return *number* with three significant digits, and none of them in an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _version(name: str) -> str:
    """Return the version of a library, or that it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def _openssl() -> str:
    """Return the version of the OpenSSL that hashes."""
    import ssl

    return ssl.OPENSSL_VERSION


if __name__ == "__main__":
    main()
