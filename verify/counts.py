"""Exact counts of the work of every fast loop, gated against a committed file.

``python -m verify.counts`` does the loops of `verify.loops` at their small sizes, in about a second, and compares what
they count with ``verify/data/counts.json``; so does a test. Any difference is a change of the algorithm, for better or
worse: the counts come from sizes of arrays and from comparisons of numbers far from rounding error, so they are the
same in every run and on every machine. ``python -m verify.counts --write`` makes the file anew, for a change that is
intended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from operator import index
from pathlib import Path

from reference.notation import InputError
from verify.cells import write_atomically
from verify.loops import LOOPS, Counts, Load, Loop

FILE = Path(__file__).parent / "data" / "counts.json"
REMEDY = (
    'If this is meant to be so, run "python -m verify.counts --write", commit the file with the change, and say in the '
    "message why the counts changed."
)
LEFT_OUT = {
    name: {"solve": "conjugate gradients on an old factor stop at rounding error, which differs between machines"}
    for name in ("events", "joint", "lazy", "deep", "deep-upper", "deep-last")
}
"""Counts that are not gated, by loop and name, and why."""

Table = Mapping[str, Mapping[str, Counts]]
"""Loop and sizes, then step, then name of the count."""


def measure(loops: Sequence[Loop] = LOOPS, load: Load = import_module) -> dict[str, dict[str, Counts]]:
    """Do every loop once at its small sizes, and count.

    Parameters
    ----------
    loops : sequence of Loop
        Which.
    load : callable
        Where the code under test comes from.

    Returns
    -------
    dict
        See `Table`; without `LEFT_OUT`.
    """
    table = {}
    for loop in loops:
        left_out = LEFT_OUT.get(loop.name, {})
        table[f"{loop.name} {loop.small}"] = {
            step: {name: index(count) for name, count in act().items() if name not in left_out}
            for step, act in loop.prepare(load, loop.small)
        }
    return table


def changes(old: Table, new: Table) -> list[str]:
    """Say which counts changed, from what to what, one line each.

    Parameters
    ----------
    old, new : Table
        Before and after.

    Returns
    -------
    list of str
        Empty when all are equal.

    Examples
    --------
    >>> changes({"tree m=4": {"start": {"query": 8}}}, {"tree m=4": {"start": {"query": 10, "build": 3}}})
    ['tree m=4, start, query: 8 -> 10 (+25%)', 'tree m=4, start, build: not counted -> 3']
    """
    before, after = _flat(old), _flat(new)
    lines = []
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key), after.get(key)
        if was != now:
            lines.append(f"{', '.join(key)}: {_word(was)} -> {_word(now)}{_percent(was, now)}")
    return lines


def _flat(table: Table) -> dict[tuple[str, str, str], int]:
    return {
        (loop, step, name): count
        for loop, steps in table.items()
        for step, counts in steps.items()
        for name, count in counts.items()
    }


def _word(count: int | None) -> str:
    return "not counted" if count is None else str(count)


def _percent(was: int | None, now: int | None) -> str:
    return f" ({100 * (now / was - 1):+.3g}%)" if was and now is not None else ""


def committed(path: Path = FILE) -> dict[str, dict[str, Counts]]:
    """Read the committed counts.

    Raises
    ------
    InputError
        No file, or one that is not a table of counts.
    """
    try:
        table: dict[str, dict[str, Counts]] = json.loads(path.read_text(encoding="utf-8"))
        _flat(table)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} holds no counts ({error}); make it with python -m verify.counts --write") from error
    return table


def main(arguments: Sequence[str] | None = None, *, path: Path = FILE) -> int:
    """Compare with the committed file, or write it; returns the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.
    path : Path
        The file.
    """
    parser = argparse.ArgumentParser(
        prog="python -m verify.counts",
        description="Compare the exact counts of every fast loop with the committed ones.",
        epilog="exit status: 0 equal or written, 1 changed, 2 no file to compare with",
        allow_abbrev=False,
    )
    parser.add_argument("--write", action="store_true", help=f"write {path.name} instead; say why in the commit")
    write = parser.parse_args(arguments).write
    measured = measure()
    try:
        old = committed(path)
    except InputError as error:
        if not write:
            print(f"verify.counts: {error}", file=sys.stderr)
            return 2
        old = {}
    changed = changes(old, measured)
    print(*changed, sep="\n", end="\n" if changed else "")
    total = len(_flat(measured))
    if write:
        write_atomically(path, json.dumps(measured, indent=1) + "\n")
        print(f"{path} is written: {total} counts, {len(changed)} changed.")
        return 0
    print(f"{len(changed)} of {total} counts changed. {REMEDY}" if changed else f"All {total} counts are as committed.")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
