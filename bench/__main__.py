"""
Measure everything, and write ``docs/performance.md``: ``python bench [--print] [--quick]``.

Each ``bench_*.py`` beside this file has a function ``rows()``; each row is one
comparison with its ``name``, ``ours``, ``peer``, ``ratio``, ``unit`` and
``note``.  What counts is the ratio: both sides ran here, on the same bytes.
``limits`` are its budgets: which figure, ``<=`` or ``>=``, and how much.
"""

import argparse
import importlib
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import cast

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
LIBRARIES = ("cryptography", "pyarrow", "numpy", "pandas", "mlflow", "opentelemetry-sdk")
SIGNS = {"<=": "at most", ">=": "at least"}


def main() -> None:
    """Run every benchmark and write, or print, the page."""
    parser = argparse.ArgumentParser(description="Measure, and write docs/performance.md.")
    parser.add_argument("--print", action="store_true", help="print the page, write nothing")
    parser.add_argument("--quick", action="store_true", help="smaller, and less exact")
    parser.add_argument("--only", default="", help="benchmarks whose file name contains this")
    options = parser.parse_args()

    sys.path.insert(0, str(HERE))
    load = _load()
    tables: list[str] = []
    budgets: list[str] = []
    for path in sorted(HERE.glob("bench_*.py")):
        if options.only in path.stem:
            module = importlib.import_module(path.stem)
            title = path.stem.removeprefix("bench_").replace("_", " ").capitalize()
            began = time.monotonic()
            rows = module.rows(quick=options.quick)
            print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            about = getattr(module, "ABOUT", "")
            tables += [f"## {title}", "", *([about] if about else []), *_table(rows), ""]
            budgets += [line for row in rows for line in _budgets(row)]
    page = "\n".join([*_head(budgets, load, quick=options.quick), *tables])
    if options.print or options.only:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")
        print(f"wrote {PAGE}")


def _head(budgets: list[str], load: str, *, quick: bool) -> list[str]:
    """Return what was measured where, and what was within its budget."""
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
        f"| load before and after | {load}, {_load()} |",
        "",
        *(["Measured with `--quick`: less exact.", ""] if quick else []),
        "## Budgets",
        "",
        "| what | budget | measured | |",
        "|---|---|---:|---|",
        *budgets,
        "",
    ]


def _budgets(row: dict[str, object]) -> list[str]:
    """Return the lines of a row's budgets, each with whether it was kept."""
    found = []
    for figure, sign, limit in cast("list[tuple[str, str, float]]", row.get("limits", [])):
        value = float(str(row[figure]))
        kept = value <= limit if sign == "<=" else value >= limit
        unit = f" {row['unit']}" if figure == "ours" else " × the peer"
        found.append(
            f"| {row['name']} | {SIGNS[sign]} {_figure(limit)}{unit} | {_figure(value)}{unit} "
            f"| {'kept' if kept else '**missed**'} |"
        )
    return found


def _table(rows: list[dict[str, object]]) -> list[str]:
    """Return *rows* as a table."""
    lines = ["| comparison | ours | peer | ratio | |", "|---|---:|---:|---:|---|"]
    for row in rows:
        ours, peer, ratio = (float(str(row[key])) for key in ("ours", "peer", "ratio"))
        unit = row["unit"]
        lines.append(
            f"| {row['name']} | {_figure(ours)} {unit} | {_figure(peer)} {unit} "
            f"| **{_ratio(ratio)}** | {row['note']} |"
        )
    return lines


def _ratio(number: float) -> str:
    """Return *number* with two decimals, more for a small one."""
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def _figure(number: float) -> str:
    """Return *number* with three significant digits, and none of them in an exponent."""
    return (
        f"{number:,.0f}"
        if number >= 100
        else f"{float(f'{number:.3g}'):f}".rstrip("0").rstrip(".")
    )


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


def _load() -> str:
    """Return how many processes wanted a core in the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _openssl() -> str:
    """Return the version of the OpenSSL that hashes."""
    import ssl

    return ssl.OPENSSL_VERSION


if __name__ == "__main__":
    main()
