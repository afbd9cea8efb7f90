"""What changed between two baselines of pytest-benchmark, beyond their times: counts, and ratios to opponents.

``python -m verify.benchmarks`` reads the two newest files below ``.benchmarks``, and two others when they are named.
Counts are compared exactly. Ratios were measured interleaved in one process, and count as changed when their intervals
have no number in common.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reference.notation import InputError
from verify.counts import changes

FOLDER = Path(".benchmarks")
RATIO = "times as fast as"
"""Where ``tests/benchmarks/conftest.py`` stores ratios, in ``extra_info``."""


def newest(folder: Path = FOLDER) -> list[Path]:
    """Find the two newest baselines, the older one first.

    Raises
    ------
    InputError
        There are fewer.
    """
    # pytest-benchmark numbers them in the order in which they are saved.
    found = sorted(folder.glob("*/*.json"), key=lambda file: file.name)[-2:]
    if len(found) < 2:
        raise InputError(
            f"{folder} holds {len(found)} baseline(s), and two are compared; "
            "save more with pytest tests/benchmarks --benchmark-enable --benchmark-only --benchmark-autosave"
        )
    return found


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read ``extra_info`` by name of the benchmark.

    Raises
    ------
    InputError
        Not a baseline.
    """
    try:
        return {each["fullname"]: each["extra_info"] for each in json.loads(path.read_bytes())["benchmarks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no baseline ({type(error).__name__}); pass files of pytest-benchmark") from error


def compare(old: Path, new: Path) -> list[str]:
    """Say what changed in the benchmarks that both have, one line each.

    Parameters
    ----------
    old, new : Path
        Baselines.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        See `read`.
    """
    before, after = read(old), read(new)
    both = [name for name in before if name in after]
    lines = changes(*({name: {"counts": _counts(side[name])} for name in both} for side in (before, after)))
    for name in both:
        was, now = (side[name].get(RATIO, {}) for side in (before, after))
        for opponent in was.keys() & now.keys():
            one, other = was[opponent], now[opponent]
            if max(one["low"], other["low"]) > min(one["high"], other["high"]):
                lines.append(f"{name}, {RATIO} {opponent}: {_words(one)} -> {_words(other)}")
    return lines


def _counts(info: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in info.items() if isinstance(value, int)}


def _words(ratio: dict[str, float]) -> str:
    return "{estimate:.3g} [{low:.3g}, {high:.3g}]".format(**ratio)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m verify.benchmarks",
        description="Say which counts, and which ratios to opponents, changed between two baselines.",
        epilog="exit status: 0 nothing changed, 1 something did, 2 no baselines",
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="two baselines; default: the newest")
    files = parser.parse_args(arguments).files
    try:
        if len(files) not in (0, 2):
            raise InputError(f"{len(files)} file(s) named; name two baselines, or none for the two newest")
        old, new = files or newest()
        lines = compare(old, new)
    except InputError as error:
        print(f"verify.benchmarks: {error}", file=sys.stderr)
        return 2
    print(f"{old} -> {new}", *lines, f"{len(lines)} changes.", sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
