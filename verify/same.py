"""Tells whether two runs found the same, apart from times: ``python -m verify.same DIR DIR``.

A run that was killed and started again, or measured elsewhere, ends with the ``results.json`` of an uninterrupted one,
except for what depends on a clock:

- of each claim ``seconds``;
- of a claim of a timed experiment, and of one about the user's own data, also ``verdict``, ``estimate``, ``interval``,
  ``margin``, ``domain`` and ``reason``: its evidence is read from a clock. (Some findings of such an experiment are
  counts all the same, and equal; they are left out with it.)
- of the environment ``date``; and ``executor``, which says where cells were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

BY_CLOCK = ("verdict", "estimate", "interval", "margin", "domain", "reason")
NOT_FOUND_OUT = ("date", "executor")
OWN_DATA = "data"


def without_times(results: dict[str, Any], timed: Collection[str]) -> dict[str, Any]:
    """Leave out everything that may differ between two runs of the same command.

    Parameters
    ----------
    results : dict
        Content of a ``results.json``.
    timed : collection of str
        Names of the experiments that look at a clock.

    Returns
    -------
    dict

    Examples
    --------
    >>> claim = {"id": "time.x", "verdict": "holds", "seconds": 1.5}
    >>> without_times({"claims": [claim], "environment": {"seed": 0, "date": "today"}}, timed={"time"})
    {'claims': [{'id': 'time.x'}], 'environment': {'seed': 0}}
    """
    claims = []
    for claim in results["claims"]:
        left_out = {"seconds", *(BY_CLOCK if claim["id"].partition(".")[0] in timed else ())}
        claims.append({key: value for key, value in claim.items() if key not in left_out})
    environment = {key: value for key, value in results["environment"].items() if key not in NOT_FOUND_OUT}
    return {"claims": claims, "environment": environment}


def differences(first: dict[str, Any], second: dict[str, Any], timed: Collection[str]) -> Iterator[str]:
    """Compare two runs apart from times.

    Parameters
    ----------
    first, second : dict
        Contents of two ``results.json``.
    timed : collection of str
        Names of the experiments that look at a clock.

    Yields
    ------
    str
        One line for each value that differs.
    """
    runs = []
    for results in (without_times(each, timed) for each in (first, second)):
        flat = {("environment", key): value for key, value in results["environment"].items()}
        flat |= {(claim["id"], key): value for claim in results["claims"] for key, value in claim.items()}
        runs.append(flat)
    one, other = runs
    for place in [*one, *(place for place in other if place not in one)]:
        if one.get(place) != other.get(place):
            yield f"{' '.join(place)}: {json.dumps(one.get(place))}, and {json.dumps(other.get(place))}"
    if one == other and list(one) != list(other):
        yield "order of the claims"


def main(arguments: Sequence[str] | None = None, *, timed: Collection[str] | None = None) -> int:
    """Compare the runs in two output folders.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.
    timed : collection of str, optional
        Names of the experiments that look at a clock, in place of the project's own.

    Returns
    -------
    int
        Exit status: 0 when they are the same, 1 when not, 2 when they cannot be read.
    """
    folders = sys.argv[1:] if arguments is None else list(arguments)
    if len(folders) != 2:
        print("usage: python -m verify.same DIR DIR", file=sys.stderr)
        return 2
    if timed is None:
        from verify.claims import EXPERIMENTS

        timed = {OWN_DATA, *(experiment.name for experiment in EXPERIMENTS if experiment.timed)}
    try:
        first, second = (json.loads((Path(each) / "results.json").read_text(encoding="utf-8")) for each in folders)
        found = list(differences(first, second, timed))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"verify: cannot compare ({type(error).__name__}: {error}); name two output folders", file=sys.stderr)
        return 2
    print("\n".join(found) or "the same, apart from times")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
