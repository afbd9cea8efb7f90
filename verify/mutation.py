"""Do the tests notice when a line of ``fast/`` or ``reference/`` is wrong? Mutation testing with mutmut.

``python -m verify.mutation fast.gram`` lets mutmut make *mutants* of the module, each with one small change (``<`` for
``<=``, an argument left out, ...), and run the tests that call the changed function. It passes when three things hold:

1. at least `SHARE` of the mutants are killed;
2. every survivor stands in ``tests/survivors.txt`` under a reason;
3. nothing stands there that is not, or no longer, a survivor.

Killed is a mutant when a test fails, runs into the time limit or crashes. All others survived: those that pass every
test, those that no test reaches, and those with which pytest ended in another way. A survivor is known by its
function and its changed line, before and after, so that the file outlives changes elsewhere. Two changes that read the
same are one entry; it is stale when both are killed.

The settings are in ``pyproject.toml`` under ``tool.mutmut``; verdicts are kept in ``mutants/``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reference.notation import InputError
from verify import environment
from verify.source import ROOT

SHARE = 0.9
"""Least share of mutants killed."""
PACKAGES = ("fast", "reference")
SURVIVORS = ROOT / "tests" / "survivors.txt"
MUTANTS = ROOT / "mutants"
KILLED = frozenset({1, 3, 24, -24, 36, 152, 255, -9, -11})
"""Exit codes: tests failed, pytest itself failed; out of time; killed, segmentation fault."""
MUTMUT = (sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run")

Survivors = dict[str, dict[str, str]]
"""For each module, the reason of every change that is listed."""


@dataclass(frozen=True)
class Mutant:
    """One changed function and what became of it.

    Parameters
    ----------
    name : str
        As mutmut calls it, with a number that other changes may shift.
    change : str
        Function, changed line before and after: ``gram: a + b -> a - b``.
    exit_code : int or None
        Of pytest; None where it has not run.
    """

    name: str
    change: str
    exit_code: int | None

    @property
    def killed(self) -> bool:
        """Whether the tests noticed."""
        return self.exit_code in KILLED


# ---- what mutmut found ---------------------------------------------------------------------------


def modules(root: Path = ROOT) -> list[str]:
    """List the modules that are mutated, by their full names."""
    return [f"{package}.{path.stem}" for package in PACKAGES for path in sorted((root / package).glob("[!_]*.py"))]


def mutants(module: str, folder: Path = MUTANTS) -> list[Mutant]:
    """Read the mutants of a module and their verdicts from mutmut's folder.

    Parameters
    ----------
    module : str
        Full name.
    folder : Path
        Where mutmut works.

    Returns
    -------
    list of Mutant
        Empty where the module has no function to change.

    Raises
    ------
    InputError
        mutmut has not been here, or was killed as it wrote.
    """
    path = folder / f"{module.replace('.', '/')}.py"
    try:
        verdicts: dict[str, int | None] = json.loads(_beside(path, ".meta"))["exit_code_by_key"]
        spans: dict[str, list[int]] = json.loads(_beside(path, ".spans"))["spans"]
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{module} has no mutants ({error}); run python -m verify.mutation {module}") from error
    except (ValueError, KeyError) as error:
        # mutmut does not write atomically: whoever kills it may leave half a file, on which mutmut fails as well.
        raise InputError(f"what mutmut knows of {module} is damaged ({error}); delete {path}*, run it again") from error

    def source(function: str) -> list[str]:
        start, end = spans[function]
        return [re.sub(r"\bx\w+__mutmut_\w+", "", line).strip() for line in lines[start - 1 : end]]

    found = []
    for name, exit_code in verdicts.items():
        mutated = name.rpartition(".")[2]
        stem = mutated.partition("__mutmut_")[0]
        readable = stem.removeprefix("xǁ").replace("ǁ", ".") if stem.startswith("xǁ") else stem.removeprefix("x_")
        before, after = _difference(source(f"{stem}__mutmut_orig"), source(mutated))
        found.append(Mutant(name, f"{readable}: {before} -> {after}", exit_code))
    return found


def _beside(path: Path, suffix: str) -> str:
    return path.with_name(path.name + suffix).read_text(encoding="utf-8")


def _difference(before: list[str], after: list[str]) -> tuple[str, str]:
    """Cut equal lines off both ends; what is left is joined, and nothing is called ``(nothing)``."""
    shorter = min(len(before), len(after))
    head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
    parts = (lines[head : len(lines) - tail] for lines in (before, after))
    first, second = (" ".join(line for line in part if line) or "(nothing)" for part in parts)
    return first, second


# ---- what is known -------------------------------------------------------------------------------


def read_survivors(text: str) -> Survivors:
    r"""Read the list of survivors.

    Parameters
    ----------
    text : str
        ``[module]``, then reasons at the margin, each followed by the changes that it explains, indented. Lines with
        ``#`` first are comments.

    Returns
    -------
    dict of str to dict
        For each module, the reason of every change.

    Raises
    ------
    InputError
        A change without module or reason, a reason without changes, or anything twice.

    Examples
    --------
    >>> read_survivors("[fast.gram]\nThe sum is the same.\n    gram: a + b -> b + a\n")
    {'fast.gram': {'gram: a + b -> b + a': 'The sum is the same.'}}
    """
    listed: Survivors = {}
    module = reason = ""
    unused = False
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        header = re.fullmatch(r"\[(\S+)\]", line)
        if not content or content.startswith("#"):
            continue
        where = f"line {number} of the survivors, {content[:60]!r},"
        if not line[0].isspace():
            if unused:
                raise InputError(f"{where} follows a reason without survivors; delete that")
            unused = header is None
            module, reason = (header[1], "") if header else (module, content)
            if header and module in listed:
                raise InputError(f"{where} is there twice; put both parts together")
            listed.setdefault(module, {})
        elif not module or not reason:
            raise InputError(f"{where} has no reason; write one above it, at the margin, below [module]")
        elif content in listed[module]:
            raise InputError(f"{where} is there twice; delete one")
        else:
            listed[module][content] = reason
            unused = False
    if unused:
        raise InputError(f"the survivors end with a reason without survivors, {reason[:60]!r}; delete it")
    return listed


def problems(module: str, found: Iterable[Mutant], listed: Survivors) -> list[str]:
    """Compare the survivors of a module with the list.

    Parameters
    ----------
    module : str
        Full name.
    found : iterable of Mutant
        All its mutants.
    listed : dict
        From `read_survivors`.

    Returns
    -------
    list of str
        One line each for what has not run, what is not listed, and what is listed and is no survivor.
    """
    found = list(found)
    reasons = listed.get(module, {})
    waiting = sum(mutant.exit_code is None for mutant in found)
    survivors = {mutant.change for mutant in found if not mutant.killed and mutant.exit_code is not None}
    lines = [f"{module}: {waiting} mutants have not run; run python -m verify.mutation {module}"] if waiting else []
    lines += [f"{module}: survived and not listed: {change}" for change in sorted(survivors - reasons.keys())]
    if not waiting:
        lines += [f"{module}: listed, but no survivor: {change}" for change in reasons if change not in survivors]
    return lines


def check(found: dict[str, list[Mutant]], listed: Survivors, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Judge the mutants of some modules.

    Parameters
    ----------
    found : dict
        The mutants of each module.
    listed : dict
        From `read_survivors`.
    known : sequence of str
        Modules that exist.

    Returns
    -------
    table, problems : list of str
        Lines to print; all is well when there are no problems.
    """
    table, wrong = [], [f"{module} is listed, but there is no such module" for module in listed if module not in known]
    for module, each in found.items():
        table.append(_row(module, each))
        wrong += problems(module, each, listed)
    everything = [mutant for each in found.values() for mutant in each]
    table += [_row("all", everything)] if len(found) > 1 else []
    share = _share(everything)
    if share < SHARE:
        wrong.append(f"{share:.1%} of the mutants are killed, less than {SHARE:.0%}; write tests that kill more")
    return table, wrong


def _share(found: list[Mutant]) -> float:
    return sum(mutant.killed for mutant in found) / len(found) if found else 1.0


def _row(name: str, found: list[Mutant]) -> str:
    return f"{name:32} {sum(mutant.killed for mutant in found):5} of {len(found):5} killed, {_share(found):6.1%}"


# ---- the command ---------------------------------------------------------------------------------


def run(names: Sequence[str], jobs: int) -> None:
    """Let mutmut test mutants.

    Parameters
    ----------
    names : sequence of str
        Mutants or patterns of them; none means all that have no verdict yet.
    jobs : int
        Processes.

    Raises
    ------
    InputError
        mutmut is not installed, or fails.
    """
    if importlib.util.find_spec("mutmut") is None:
        raise InputError("mutmut is not installed; run python -m pip install -e '.[mutation]'")
    command = [*MUTMUT, "--max-children", str(jobs), *names]
    status = subprocess.run(command, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}).returncode
    if status:
        raise InputError(f"mutmut ended with exit status {status}; it says why above")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 when all is well, 1 when not, 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m verify.mutation",
        description="Test the tests: mutate modules, and compare the survivors with tests/survivors.txt.",
        epilog="exit status: 0 all is well, 1 too few killed or the list is wrong, 2 bad input",
        allow_abbrev=False,
    )
    parser.add_argument(
        "modules", nargs="*", help="such as fast.gram; none means all, except mutants that have a verdict already"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--read", action="store_true", help="judge the verdicts that are there; run nothing")
    how.add_argument("--again", action="store_true", help="run only the survivors of the last run, after new tests")
    parser.add_argument("--jobs", type=int, default=environment.usable_cores(), help="processes (default: all cores)")
    options = parser.parse_args(arguments)
    known = modules()
    asked = options.modules or known
    try:
        for module in asked:
            if module not in known:
                raise InputError(f"there is no module {module}; pass names such as {known[0]}")
        listed = read_survivors(SURVIVORS.read_text(encoding="utf-8"))
        if options.again:
            alive = [mutant.name for module in asked for mutant in mutants(module) if not mutant.killed]
            if alive:
                run(alive, options.jobs)
        elif not options.read:
            run([f"{module}.*" for module in options.modules], options.jobs)
        table, wrong = check({module: mutants(module) for module in asked}, listed, known)
    except (InputError, OSError) as error:
        print(f"verify.mutation: {error}", file=sys.stderr)
        return 2
    print(*table, *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
