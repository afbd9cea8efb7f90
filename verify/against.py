"""Is the working tree slower than another revision? Both run in one process, interleaved, with a control.

``python -m verify --against REV`` takes the files of a git revision into a temporary folder and loads the packages
``reference`` and ``fast`` three times: once from there (*theirs*), and twice from the working tree (*ours*, and *ours
again*, the identical pair). Loads share no module (`Tree`), and all three get the same arrays. The loops of
`verify.loops` then run at their large sizes, a fresh start each round, theirs and both of ours in random order.

For each phase of each loop::

    ratio     theirs / sqrt(ours * ours again)      above 1: ours is faster
    control   ours again / ours                     the truth is 1

with intervals over blocks of rounds (`verify.timing`), widened so that those of all ratios hold at once. The verdict:

    faster, slower              the whole interval is more than `MARGIN` away from 1
    no difference beyond 5%     the whole interval is closer to 1 than that
    undecided                   neither; more rounds may help
    no evidence                 the control differs: its whole interval is farther from 1 than half the margin

The exact counts of the same runs need no statistics; those that differ are listed.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from reference.notation import InputError
from verify import environment, source
from verify.cells import write_atomically
from verify.counts import changes
from verify.loops import LOOPS, Loop, Steps
from verify.run import in_words
from verify.seeds import generator
from verify.statistics import Interval, decide_inside
from verify.timing import clock, interleaved, ratio, without_collections

PACKAGES = ("reference", "fast")
THEIRS, OURS, AGAIN = SIDES = ("theirs", "ours", "again")
MARGIN = 0.05
"""Ratios this far from 1 do not matter."""
ERROR = 0.05
"""Chance that any of the ratios' intervals misses the truth."""
ROUNDS, BLOCK, FEWEST_BLOCKS = 60, 5, 4
NO_DIFFERENCE, NO_EVIDENCE = f"no difference beyond {MARGIN:.0%}", "no evidence (the control differs)"


@dataclass(frozen=True)
class Finder:
    """Finds the packages under one folder and nowhere else.

    Without it Python would look on where the folder lacks a module, and find the working tree's.
    """

    root: Path

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:  # noqa: ANN401 - as Python asks for it
        """Answer Python's question where a module is."""
        if name.split(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, [str(self.root)] if path is None else path, target)
        if spec is None:
            raise ModuleNotFoundError(f"no module {name}", name=name)
        return spec


class Tree:
    """The packages under one folder, loaded apart from all others of the same names.

    Parameters
    ----------
    root : Path
        Folder that holds them.
    """

    def __init__(self, root: Path) -> None:
        self.finder = Finder(root.resolve())
        self.modules: dict[str, ModuleType] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let imports of these packages mean this folder's, those made while a function runs included."""
        others = _take_out()
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self.finder)
        try:
            yield
        finally:
            self.modules = _take_out()
            sys.meta_path.remove(self.finder)
            sys.modules.update(others)

    def load(self, name: str) -> ModuleType:
        """Import a module of this folder.

        Raises
        ------
        ImportError
            It is not there.
        """
        with self.active():
            return import_module(name)


def _take_out() -> dict[str, ModuleType]:
    """Remove the packages from the modules that Python knows, and return them."""
    names = [name for name in sys.modules if name.split(".")[0] in PACKAGES]
    return {name: sys.modules.pop(name) for name in names}


@dataclass(frozen=True)
class Comparison:
    """One phase of one loop.

    Parameters
    ----------
    loop, phase, setting : str
        What was timed.
    seconds : float
        Median of ours.
    ratio, control : Interval
        See the module docstring.
    verdict : str
        Likewise.
    """

    loop: str
    phase: str
    setting: str
    seconds: float
    ratio: Interval
    control: Interval
    verdict: str


@dataclass
class Found:
    """What a comparison of two trees found.

    Parameters
    ----------
    comparisons : list of Comparison
        Of the loops that run on both sides.
    counts : list of str
        Exact counts that differ, theirs -> ours.
    missing : dict
        Loops that theirs lacks, and why.
    broken : dict
        Loops that ours lacks, and why.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Exit status: 1 when something is slower, or stops."""
        return int(bool(self.broken) or any(each.verdict == "slower" for each in self.comparisons))


@contextmanager
def checked_out(revision: str, root: Path = source.ROOT) -> Iterator[tuple[Path, str]]:
    """Take the files of a git revision into a temporary folder, for as long as the context lasts.

    Parameters
    ----------
    revision : str
        Whatever git understands.
    root : Path
        Top of the checkout. Neither its files nor its branches are touched.

    Yields
    ------
    folder : Path
    commit : str
        Its full name.

    Raises
    ------
    InputError
        Not the top of a checkout, no git, no such revision.
    """
    if environment.revision(root) is None:
        raise InputError(f"{root} is no git checkout of this project; --against needs one, and git")
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise InputError(
            f"--against {revision}: no such revision; name a commit, branch or tag (git log shows them)"
        ) from None
    with tempfile.TemporaryDirectory(prefix="verify-against-") as folder:
        archive, tree = Path(folder) / "tree.zip", Path(folder) / "tree"
        _git(root, "archive", "--format=zip", f"--output={archive}", commit)
        with zipfile.ZipFile(archive) as files:
            files.extractall(tree)
        yield tree, commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def select(names: str | None) -> list[Loop]:
    """Choose loops by name, separated by commas; all when None.

    Raises
    ------
    InputError
        A name that is none.
    """
    if names is None:
        return list(LOOPS)
    wanted = {name.strip() for name in names.split(",")} - {""}
    known = [loop.name for loop in LOOPS]
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        cause = f"unknown loop {unknown[0]!r}" if unknown else "--loops names no loop"
        near = get_close_matches(unknown[0], known, n=1) if unknown else []
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{cause}; {hint}choose from {', '.join(known)}")
    return [loop for loop in LOOPS if loop.name in wanted]


def compare(
    theirs: Path, ours: Path, loops: Sequence[Loop], *, rounds: int = ROUNDS, seed: int = 0, progress: bool = False
) -> Found:
    """Run loops of two trees beside each other.

    Parameters
    ----------
    theirs, ours : Path
        Folders that hold the packages.
    loops : sequence of Loop
        Which.
    rounds : int
        How often.
    seed : int
        Of the random order.
    progress : bool
        Whether to show it on stderr.

    Returns
    -------
    Found

    Raises
    ------
    InputError
        Too few rounds, or none of the loops runs on both sides.
    """
    if rounds < BLOCK * FEWEST_BLOCKS:
        raise InputError(f"--rounds is {rounds}; pass {BLOCK * FEWEST_BLOCKS} or more")
    trees = {THEIRS: Tree(theirs), OURS: Tree(ours), AGAIN: Tree(ours)}
    found = Found()
    runners = [each for each in (prepare(loop, trees, found) for loop in loops) if each is not None]
    if not runners and not found.broken:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.missing.items())
        raise InputError(f"no loop runs on both sides ({reasons}); name a later revision")
    rng = generator(seed, "against")
    # Loop after loop in every block, so that a minute in which the machine is slow spoils a few rounds of each.
    blocks = np.array_split(np.arange(rounds), rounds // BLOCK)
    with without_collections():
        for block in tqdm(blocks, desc="blocks of rounds", disable=not progress, file=sys.stderr):
            for runner in runners:
                for _ in block:
                    runner.round(rng)
            gc.collect()
    share = ERROR / max(1, sum(len(runner.phases) for runner in runners))
    found.comparisons = [each for runner in runners for each in runner.compared(1 - share)]
    return found


class Runner:
    """One loop, prepared on all sides, and its readings.

    Parameters
    ----------
    loop : Loop
        Which.
    trees : dict
        By side.
    steps : dict
        Likewise: the loop's steps.
    """

    def __init__(self, loop: Loop, trees: dict[str, Tree], steps: dict[str, Steps]) -> None:
        self.loop, self.trees, self.steps = loop, trees, steps
        self.readings: list[dict[str, dict[str, float]]] = []
        self.phases = list(dict.fromkeys(step.split()[0] for step, _ in steps[OURS]))

    def run(self, side: str) -> dict[str, float]:
        """Do all steps on one side; seconds by phase."""
        seconds = dict.fromkeys(self.phases, 0.0)
        with self.trees[side].active():
            for step, act in self.steps[side]:
                before = clock()
                act()
                seconds[step.split()[0]] += clock() - before
        return seconds

    def round(self, rng: np.random.Generator) -> None:
        """Do all steps on all sides, in random order."""
        self.readings.append(
            interleaved({side: lambda side=side: self.run(side) for side in SIDES}, rng)  # type: ignore[misc]
        )

    def compared(self, confidence: float) -> Iterator[Comparison]:
        """Decide about each phase."""
        for phase in self.phases:
            theirs, ours, again = (
                np.array([reading[side][phase] for reading in self.readings]) for side in SIDES
            )
            found = ratio(theirs, np.sqrt(ours * again), block=BLOCK, confidence=confidence)
            control = ratio(again, ours, block=BLOCK, confidence=confidence)
            yield Comparison(
                self.loop.name,
                phase,
                str(self.loop.large),
                float(np.median(ours)),
                found,
                control,
                decide(found, control),
            )


def prepare(loop: Loop, trees: dict[str, Tree], found: Found) -> Runner | None:
    """Prepare a loop on all sides and do it once; note where it is missing, and which counts differ."""
    steps, counts = {}, {}
    for side in (OURS, AGAIN, THEIRS):
        try:
            with trees[side].active():
                steps[side] = loop.prepare(trees[side].load, loop.large)
                counts[side] = {step: act() for step, act in steps[side]}
        except Exception as error:  # whatever happens: this loop cannot be compared, the others can
            if side == THEIRS:
                absent = isinstance(error, (ImportError, AttributeError))
                why = f"not there at the revision ({error})" if absent else f"stops at the revision ({in_words(error)})"
                found.missing[loop.name] = why
            else:
                found.broken[loop.name] = f"stops in the working tree ({in_words(error)})"
            return None
    key = f"{loop.name} {loop.large}"
    found.counts += changes({key: counts[THEIRS]}, {key: counts[OURS]})
    return Runner(loop, trees, steps)


def decide(found: Interval, control: Interval, margin: float = MARGIN) -> str:
    """Put a ratio into words; see the module docstring.

    Examples
    --------
    >>> decide(Interval(0.85, 0.8, 0.9), Interval(1.0, 0.98, 1.02))
    'slower'
    """
    half = margin / 2
    if decide_inside(control, 1 / (1 + half), 1 + half) in ("fails", "invalid"):
        return NO_EVIDENCE
    match decide_inside(found, 1 / (1 + margin), 1 + margin):
        case "holds":
            return NO_DIFFERENCE
        case "fails":
            return "faster" if found.estimate > 1 else "slower"
        case _:
            return "undecided"


def to_text(found: Found, heading: str) -> str:
    """Write what was found for a terminal.

    Parameters
    ----------
    found : Found
        What.
    heading : str
        What was compared.

    Returns
    -------
    str
    """
    lines = [heading, ""]
    if found.comparisons:
        lines.append(f"{'loop':<15}{'phase':<11}{'ms':>8}   {'theirs / ours':<22}{'ours again / ours':<22}verdict")
    lines += [
        f"{each.loop:<15}{each.phase:<11}{1e3 * each.seconds:8.2f}   {_words(each.ratio):<22}"
        f"{_words(each.control):<22}{each.verdict}"
        for each in found.comparisons
    ]
    lines += ["", "Exact counts that differ, theirs -> ours:", *found.counts] if found.counts else []
    lines += ["", *(f"{name}: {why}" for name, why in (found.missing | found.broken).items())]
    tally = {verdict: sum(each.verdict == verdict for each in found.comparisons) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in tally.items() if count)
    lines.append(f"Of {len(found.comparisons)} phases: {told}." if told else "Nothing was timed.")
    if tally["undecided"]:
        lines.append("More --rounds, or an idle machine, narrow the intervals of those undecided.")
    return "\n".join(lines)


VERDICTS = ("slower", "faster", NO_DIFFERENCE, "undecided", NO_EVIDENCE)


def _words(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def to_json(found: Found, **about: object) -> str:
    """Write ``against.json``; a number that is not finite is null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    comparisons = [plain(asdict(each)) for each in found.comparisons]
    content = {**about, "comparisons": comparisons, "counts": found.counts, "missing": found.missing}
    return json.dumps(content | {"broken": found.broken}, indent=2, allow_nan=False) + "\n"


def run(options: argparse.Namespace, root: Path = source.ROOT) -> tuple[Found, str]:
    """Do what the command line asks for: compare, write ``against.json``.

    Parameters
    ----------
    options : argparse.Namespace
        With ``against``, ``loops``, ``rounds``, ``seed`` and ``out``.
    root : Path
        The working tree.

    Returns
    -------
    found : Found
    text : str
        For the terminal.

    Raises
    ------
    InputError
        See `checked_out`, `select` and `compare`.
    """
    loops, rounds = select(options.loops), ROUNDS if options.rounds is None else options.rounds
    described = environment.describe()
    with checked_out(options.against, root) as (tree, commit):
        found = compare(tree, root, loops, rounds=rounds, seed=options.seed, progress=sys.stderr.isatty())
    head, _, changed = str(environment.revision(root)).partition("+")
    heading = (
        f"Ours: the working tree, {head[:12]} {'with' if changed else 'without'} uncommitted changes. "
        f"Theirs: {options.against}, {commit[:12]}.\n"
        f"Paired ratios of processor times over {rounds} interleaved rounds in one process; above 1 ours is faster.\n"
        f"All intervals of theirs / ours hold at once with {1 - ERROR:.0%}."
    )
    about = {"theirs": commit, "against": options.against, "rounds": rounds, "seed": options.seed, "margin": MARGIN}
    write_atomically(options.out / "against.json", to_json(found, **about, environment=described))
    return found, to_text(found, heading)
