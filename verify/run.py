"""Runs experiments: measures their cells, in parallel where that is honest, and decides their claims.

A run has three steps that can be told apart afterwards::

    look up     cells measured before, by the same code on the same machine, are read back
    measure     the rest goes to an executor; every finished cell is stored at once
    decide      each experiment sees all its results, as read from JSON, and returns its findings

Cells that read the clock come last, one at a time, in one process of this machine, whose clock and processor the
environment describes, with nothing of this run beside them. The others run on any `concurrent.futures.Executor`,
in an order that mixes all experiments, so that the time left can be estimated from the time taken. Every process
makes sure with every cell that it runs the same code and libraries. An edit during a run changes nothing in processes
that have their modules loaded; where one loads a module after it, cells give no result and are not stored.

No failure is silent and none is fatal to the rest: a cell that raises, a result that is not finite, a claim
that its experiment does not decide, trials that are copies of each other make the claims *invalid*, with the
reason. Only a ``KeyboardInterrupt``, or an executor that cancels what it was given, ends a run early; what was
measured by then is kept.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from reference.notation import InputError
from verify import environment, seeds
from verify.cells import Cell, CellStore, CorruptCellError, Measured, canonical, digest
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result

Measure = Callable[[Inputs, np.random.Generator, CodeUnderTest], Result]
VERDICTS = ("holds", "fails", "undecided", "invalid")
WORKER_DIED = "its worker process died (out of memory?)"
LINE_SECONDS = 15.0
"""Where there is no terminal, progress is a line of text this often."""
MOST_WORKERS = 8
"""Default limit: a cell may need a gigabyte, and not every machine has one for each of its cores."""


@dataclass(frozen=True)
class Decision:
    """What one experiment found, ready to be reported.

    Parameters
    ----------
    name, title : str
        The experiment's.
    claims : tuple of Claim
        The claims decided.
    findings : tuple of Finding
        One per claim, in the same order.
    seconds : float
        Time to measure the cells, summed.
    cells : int
        How many there are.
    draw : callable, optional
        Draws the evidence on a matplotlib Figure.
    text : str
        Evidence that is best read as text.
    caption : str
        Says what `draw` shows.
    command : str
        The command that finds the same again, where it is not ``--claims`` with the experiment's name.
    broken : bool
        Whether a cell or the experiment raised, so that the verdicts are not its own.
    """

    name: str
    title: str
    claims: tuple[Claim, ...]
    findings: tuple[Finding, ...]
    seconds: float
    cells: int
    draw: Callable[[Figure], None] | None = None
    text: str = ""
    caption: str = ""
    command: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Run:
    """All decisions of a run, and how its cells came about.

    Parameters
    ----------
    decisions : tuple of Decision
        In the order of the experiments.
    environment : dict
        Machine, libraries, code, seed and profile, as they were at the start.
    measured, reused : int
        Cells measured in this run; cells read back from an earlier one.
    corrupt : tuple of str
        One sentence for each stored cell that did not check out (and was measured again).
    damaged : int
        How many cells were measured again for that reason, in this run or an earlier one.
    """

    decisions: tuple[Decision, ...]
    environment: dict[str, Any]
    measured: int = 0
    reused: int = 0
    corrupt: tuple[str, ...] = ()
    damaged: int = 0


class Interrupted(KeyboardInterrupt):
    """The run was interrupted for the reason ``why``; ``done`` of ``total`` cells are measured."""

    def __init__(self, done: int, total: int, why: str = "interrupted") -> None:
        super().__init__(f"{done} of {total} cells are measured")
        self.done = done
        self.total = total
        self.why = why


def run(
    experiments: Sequence[Experiment],
    *,
    profile: Profile | None = None,
    seed: int = 0,
    out: Path | None = None,
    jobs: int | None = None,
    code: CodeUnderTest | None = None,
    executor: Executor | None = None,
    about_executor: Mapping[str, Any] | None = None,
    stream: TextIO | None = None,
) -> Run:
    """Measure and decide.

    Parameters
    ----------
    experiments : sequence of Experiment
        With names that differ.
    profile : Profile, optional
        How much to measure.
    seed : int
        Root seed, 0 or more.
    out : Path, optional
        Folder below which cells are stored and looked up. Without it, or with a planted fault in ``code``,
        nothing is stored and nothing looked up.
    jobs : int, optional
        Worker processes; 0 measures in this process. By default one per usable core, at most `MOST_WORKERS`. With
        an executor, only timed cells are measured here.
    code : CodeUnderTest, optional
        The routines that the claims are about.
    executor : concurrent.futures.Executor, optional
        Where to measure cells that are not timed, in place of processes on this machine, for instance a cluster's.
        The caller's to close.
    about_executor : mapping, optional
        What the environment should say about it; plain JSON values.
    stream : text stream, optional
        Where to show progress; nowhere by default.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        Negative seed or jobs; two experiments of one name.
    Interrupted
        ``KeyboardInterrupt`` while measuring, or the executor cancelled cells.
    """
    code = CodeUnderTest() if code is None else code
    profile = Profile() if profile is None else profile
    check_arguments(experiments, seed, jobs)
    described = environment.describe() | dict(about_executor or {})
    stamp = environment.stamp(described)
    plans = [plan(experiment, profile, seed, stamp, code=code) for experiment in experiments]
    if code != CodeUnderTest():
        out = None  # these routines have no name under which their results could be kept apart
    sweep = measure_plans(plans, described, out=out, jobs=jobs, executor=executor, stream=stream)
    described |= {"seed": seed, "profile": "thorough" if profile.thorough else "default"}
    decisions = tuple(decide(each, sweep.outcomes) for each in plans)
    measured = sweep.total - sweep.reused
    return Run(decisions, described, measured, sweep.reused, tuple(sweep.corrupt), sweep.damaged)


def measure_plans(
    plans: Sequence[Plan],
    described: dict[str, Any],
    *,
    out: Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    stream: TextIO | None = None,
) -> Sweep:
    """Look up or measure every cell of the plans; see `run` for the arguments and for what is raised.

    Parameters
    ----------
    plans : sequence of Plan
        What to measure; a cell that two of them share is measured once.
    described : mapping
        As returned by `verify.environment.describe`; every worker must agree with it.
    out, jobs, executor, stream
        As for `run`.

    Returns
    -------
    Sweep
        With an outcome for every cell.
    """
    jobs = default_jobs() if jobs is None else jobs
    store = None if out is None else CellStore(out / "cells")
    sweep = Sweep(plans, store, environment.must_agree(described), stream)
    try:
        sweep.measure(jobs, executor)
    except KeyboardInterrupt:
        raise Interrupted(len(sweep.outcomes), sweep.total) from None
    except CancelledError:
        why = "the executor cancelled what was left (does the cluster's scheduler still run?)"
        raise Interrupted(len(sweep.outcomes), sweep.total, why) from None
    finally:
        sweep.progress.close()
    return sweep


def default_jobs() -> int:
    """Say how many worker processes there are unless a number is given."""
    return min(environment.usable_cores(), MOST_WORKERS)


def check_arguments(experiments: Sequence[Experiment], seed: int, jobs: int | None) -> None:
    """Refuse what cannot be run; see `run` for the errors."""
    if seed < 0:
        raise InputError(f"seed is {seed}; pass 0 or more")
    if jobs is not None and jobs < 0:
        raise InputError(f"jobs is {jobs}; pass 0 (this process) or the number of worker processes")
    names = [experiment.name for experiment in experiments]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two experiments are named {twice[0]!r}; cells are stored by name, so rename one")


@dataclass(frozen=True)
class Plan:
    """An experiment's cells and the code to measure in them, or the reason why it has none.

    Parameters
    ----------
    experiment : Experiment
        What is decided.
    cells : tuple of Cell
        What is measured.
    code : CodeUnderTest
        On what.
    problem : str
        Why there are no cells.
    broken : bool
        Whether that is because the experiment raised.
    """

    experiment: Experiment
    cells: tuple[Cell, ...]
    code: CodeUnderTest
    problem: str = ""
    broken: bool = False


def plan(
    experiment: Experiment, profile: Profile, seed: int, stamp: str, *, code: CodeUnderTest, fault: str = ""
) -> Plan:
    """List an experiment's cells, with inputs as they will be read back from JSON.

    Parameters
    ----------
    experiment : Experiment
        What is decided.
    profile : Profile
        How much to measure.
    seed : int
        Root seed.
    stamp : str
        Fingerprint of code and machine.
    code : CodeUnderTest
        What the cells are measured on.
    fault : str
        Name of the fault in experiment or code, if there is one.

    Returns
    -------
    Plan
    """
    try:
        inputs = [json.loads(canonical(each)) for each in experiment.cells(profile)]
    except Exception as error:
        return Plan(experiment, (), code, f"its cells could not be listed: {in_words(error)}", broken=True)
    cells = tuple(Cell(experiment.name, each, seed, stamp, fault) for each in inputs)
    if len({cell.name for cell in cells}) < len(cells):
        # Equal inputs mean equal random numbers: the copy would pass for a second, independent trial.
        return Plan(experiment, (), code, "two of its cells have equal inputs, so they are one piece of evidence")
    return Plan(experiment, cells, code)


def in_words(error: BaseException) -> str:
    """Say what was raised and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


def measure_cell(measure: Measure, cell: Cell, code: CodeUnderTest) -> Measured | str:
    """Measure one cell.

    Parameters
    ----------
    measure : callable
        The experiment's second stage.
    cell : Cell
        What to measure.
    code : CodeUnderTest
        On what.

    Returns
    -------
    Measured or str
        Or, in words, what was raised: an exception itself may not survive the way back from another process.
    """
    rng = seeds.generator(cell.seed, cell.experiment, cell.inputs)
    stream = digest(canonical(rng.bit_generator.state))
    start = time.perf_counter()
    try:
        result: object = measure(copy.deepcopy(cell.inputs), rng, code)
        seconds = time.perf_counter() - start
        if not isinstance(result, dict):
            return f"the measurement returned {type(result).__name__}, not a dict"
        return Measured(canonical(result), seconds, stream)
    except Exception as error:
        return in_words(error)


ONE_AT_A_TIME = threading.Lock()
"""A worker process may have several threads; some cells measure memory, which threads share."""


def measure_alike(expected: dict[str, str], measure: Measure, cell: Cell, code: CodeUnderTest) -> Measured | str:
    """Measure one cell, if this process runs the code that the run is about; this is what a worker runs.

    Parameters
    ----------
    expected : dict
        What must agree; see `verify.environment.must_agree`.
    measure, cell, code
        See `measure_cell`.

    Returns
    -------
    Measured or str
        As `measure_cell`, or where this process differs.
    """
    with ONE_AT_A_TIME:
        unlike = environment.differences(expected)
        measured = "" if unlike else measure_cell(measure, cell, code)
        # Perhaps the measurement itself loaded a module, one that was changed since the run started.
        unlike = unlike or environment.differences(expected)
    if unlike:
        return (
            f"its process runs other code or libraries than this run ({unlike}); change no file during a run, "
            "and start workers anew after a change"
        )
    return measured


class Progress:
    """Shows cells done, cells in all and time left: a bar on a terminal, else a line now and then.

    Parameters
    ----------
    stream : text stream or None
        Where to; None shows nothing.
    total : int
        Cells to measure.
    """

    def __init__(self, stream: TextIO | None, total: int) -> None:
        self.stream = stream
        self.total = total
        self.done = 0
        self.start = self.shown = time.monotonic()
        self.bar = None
        if stream is not None and stream.isatty() and total:
            line = "{percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} cells, {elapsed} gone, {remaining} left"
            self.bar = tqdm(
                total=total, file=stream, bar_format=line, smoothing=0, leave=False, dynamic_ncols=True
            )

    def advance(self) -> None:
        """Count one more cell as done."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif self.stream is not None and time.monotonic() - self.shown >= LINE_SECONDS:
            self.shown = time.monotonic()
            elapsed = self.shown - self.start
            left = elapsed / self.done * (self.total - self.done)
            line = f"{self.done} of {self.total} cells, {elapsed:.0f} s so far, about {left:.0f} s left"
            print(f"verify: {line}", file=self.stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


class Sweep:
    """The cells of all plans: first those that are stored, then the rest as they finish.

    Parameters
    ----------
    plans : sequence of Plan
        What to measure.
    store : CellStore or None
        Where cells are kept.
    expected : dict
        In what every worker must agree with this process; see `verify.environment.must_agree`.
    stream : text stream or None
        Where to show progress.
    """

    def __init__(
        self, plans: Sequence[Plan], store: CellStore | None, expected: dict[str, str], stream: TextIO | None
    ) -> None:
        self.store = store
        self.expected = expected
        self.corrupt: list[str] = []
        self.plans: dict[str, Plan] = {}
        """By name of the cell: the plan that wants it, the first of several."""
        cells: list[Cell] = []
        for each in plans:
            for cell in each.cells:
                if self.plans.setdefault(cell.name, each) is each:
                    cells.append(cell)
        self.total = len(cells)
        self.outcomes: dict[str, Measured | str] = {}
        """By name of the cell: what was measured, or why nothing was."""
        self.pending = [cell for cell in cells if not self.look_up(cell)]
        self.reused = len(self.outcomes)
        self.damaged = 0 if store is None else sum(store.was_set_aside(cell) for cell in cells)
        self.progress = Progress(stream, len(self.pending))

    def look_up(self, cell: Cell) -> bool:
        """Take the cell's outcome from the store; tell whether it was there."""
        if self.store is None:
            return False
        try:
            measured = self.store.load(cell)
        except CorruptCellError as error:
            self.corrupt.append(str(error))
            self.store.set_aside(cell)
            return False
        if measured is not None:
            self.outcomes[cell.name] = measured
        return measured is not None

    def measure(self, jobs: int, executor: Executor | None) -> None:
        """Measure what is pending: untimed cells side by side, then timed ones one by one."""
        # Names are hashes, so their order mixes cheap and dear cells of all experiments.
        pending = sorted(self.pending, key=lambda cell: cell.name)
        timed = [cell for cell in pending if self.plans[cell.name].experiment.timed]
        untimed = [cell for cell in pending if not self.plans[cell.name].experiment.timed]
        if executor is not None:
            lost, left = self.measure_on(executor, untimed, len(untimed))
            for cell in lost + left:
                self.record(cell, WORKER_DIED)
            untimed = []
        suspects: list[Cell] = []
        for cells, workers in ((untimed, jobs), (timed, min(jobs, 1))):
            while cells:
                with workforce(min(workers, len(cells))) as own:
                    # A short queue in front of the workers: enough to keep them busy, little to cancel.
                    lost, cells = self.measure_on(own, cells, 2 * workers if workers > 1 else 1)
                suspects += lost
        # A cell that needs too much memory takes those beside it down with it; alone, only it fails.
        for cell in suspects:
            with workforce(1) as own:
                lost, _ = self.measure_on(own, [cell], 1)
            for dead in lost:
                self.record(dead, WORKER_DIED)

    def measure_on(
        self, executor: Executor, cells: Sequence[Cell], window: int
    ) -> tuple[list[Cell], list[Cell]]:
        """Measure cells, at most ``window`` of them submitted at a time.

        Parameters
        ----------
        executor : Executor
            Where to.
        cells : sequence of Cell
            What.
        window : int
            At least 1 when there are cells.

        Returns
        -------
        lost : list of Cell
            Submitted when the executor broke.
        left : list of Cell
            Not submitted because it broke.

        Raises
        ------
        concurrent.futures.CancelledError
            The executor cancelled a cell, which it was not asked to.
        """
        left = list(reversed(cells))
        running: dict[Future[Measured | str], Cell] = {}
        finished: SimpleQueue[Future[Measured | str]] = SimpleQueue()
        lost: list[Cell] = []
        try:
            while running or (left and not lost):
                while left and not lost and len(running) < window:
                    cell = left.pop()
                    try:
                        future = self.submit(executor, cell)
                    except BrokenExecutor:
                        lost.append(cell)
                        continue
                    running[future] = cell
                    future.add_done_callback(finished.put)
                if running:
                    future = finished.get()
                    try:
                        self.record(running[future], outcome(future))
                    except BrokenExecutor:
                        lost.append(running[future])
                    del running[future]
        except (KeyboardInterrupt, CancelledError):
            for future, cell in running.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self.record(cell, outcome(future))
            raise
        return lost, left[::-1]

    def submit(self, executor: Executor, cell: Cell) -> Future[Measured | str]:
        """Hand one cell to an executor."""
        wanted = self.plans[cell.name]
        return executor.submit(measure_alike, self.expected, wanted.experiment.measure, cell, wanted.code)

    def record(self, cell: Cell, outcome: Measured | str) -> None:
        """Keep an outcome; on disk too, unless it is an error, which deserves another try."""
        if self.store is not None and isinstance(outcome, Measured):
            self.store.save(cell, outcome)
        self.outcomes[cell.name] = outcome
        self.progress.advance()


def outcome(future: Future[Measured | str]) -> Measured | str:
    """Take what a finished call returned, or say what went wrong on its way to the worker or back."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError):
        raise
    except Exception as error:
        return in_words(error)


class InThisProcess(Executor):
    """Runs every call at once, where it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        """Call, and return a Future that is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Processes(ProcessPoolExecutor):
    """Worker processes that never see Ctrl-C, not even while they start; the parent ends them."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        """Hand a call to a worker; the first one starts them, and they inherit which signals are blocked."""
        if sys.platform == "win32":
            return super().submit(fn, *args, **kwargs)
        multiprocessing.resource_tracker.ensure_running()  # or else starting it would unblock the signal too early
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def workforce(workers: int) -> Iterator[Executor]:
    """Provide that many worker processes, or this process for 0; on an exception end them at once.

    Parameters
    ----------
    workers : int
        How many.

    Yields
    ------
    Executor
    """
    if workers == 0:
        yield InThisProcess()
        return
    others = set(multiprocessing.active_children())
    executor = Processes(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    executor.shutdown()


def start_worker() -> None:
    """Prepare a worker: the parent alone answers Ctrl-C, and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent's own handler, inherited by no spawned process, would turn this signal into an exception.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def follow(sentinel: int) -> None:
    """Wait for the end of the process behind ``sentinel``, then end this one."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def decide(planned: Plan, outcomes: dict[str, Measured | str]) -> Decision:
    """Decide an experiment's claims from all of its cells.

    Parameters
    ----------
    planned : Plan
        The experiment and its cells.
    outcomes : dict
        By name of the cell.

    Returns
    -------
    Decision
        With every claim *invalid* when a cell has no result or the experiment does not decide properly.
    """
    experiment = planned.experiment
    found = [(cell, outcomes[cell.name]) for cell in planned.cells]
    results = [(cell.inputs, outcome.result) for cell, outcome in found if isinstance(outcome, Measured)]
    seconds = sum(outcome.seconds for _, outcome in found if isinstance(outcome, Measured))
    failed = [(cell, outcome) for cell, outcome in found if isinstance(outcome, str)]
    problem, broken = planned.problem, planned.broken
    if failed:
        broken = True
        first, words = failed[0]
        where = canonical(first.inputs)
        problem = f"{len(failed)} of {len(found)} cells gave no result; the first, {where}: {words}"
    elif len({outcome.stream for _, outcome in found if isinstance(outcome, Measured)}) < len(found):
        problem = "two of its cells drew the same random numbers, so they are one piece of evidence"
    elif all_copies([(cell, outcome) for cell, outcome in found if isinstance(outcome, Measured)]):
        problem = "trials that differ in nothing but their seed gave one result, so they are one piece of evidence"
    findings: dict[str, Finding] = {}
    if not problem:
        try:
            findings = {finding.claim: finding for finding in experiment.decide(copy.deepcopy(results))}
            broken = any(claim.id not in findings for claim in experiment.claims)
        except Exception as error:
            problem, broken = f"its claims could not be decided: {in_words(error)}", True
    problem = problem or "the experiment decided nothing about it"
    draw = None if not findings else experiment.plot
    return Decision(
        name=experiment.name,
        title=experiment.title,
        claims=experiment.claims,
        findings=tuple(
            credible(findings[claim.id]) if claim.id in findings else invalid(claim, problem)
            for claim in experiment.claims
        ),
        seconds=seconds,
        cells=len(found),
        draw=None if draw is None else partial(plot_results, draw, results),
        caption=caption(draw),
        broken=broken,
    )


def all_copies(found: Sequence[tuple[Cell, Measured]]) -> bool:
    """Tell whether independent trials are copies of each other: random numbers that do not depend on the seed.

    Parameters
    ----------
    found : sequence of (Cell, Measured)
        All cells of an experiment.

    Returns
    -------
    bool
        Whether cells whose inputs differ in ``seed`` alone have equal results throughout. Some may be equal by chance,
        or because nothing random remains at their size; all of them never are.
    """
    trials: dict[str, list[str]] = {}
    for cell, outcome in found:
        if "seed" in cell.inputs:
            trials.setdefault(canonical({**cell.inputs, "seed": None}), []).append(outcome.result_text)
    repeated = [results for results in trials.values() if len(results) > 1]
    return bool(repeated) and all(len(set(results)) == 1 for results in repeated)


def caption(plot: Callable[..., None] | None) -> str:
    """Say what a plot shows, by the first line of its docstring: "Draw this and that." becomes "This and that."."""
    first = (plot.__doc__ or "").strip().partition("\n")[0].removeprefix("Draw ")
    return first[:1].upper() + first[1:]


def plot_results(plot: Callable[..., None], results: object, figure: Figure) -> None:
    """Call an experiment's plot, with the figure last so that the rest can be filled in beforehand."""
    plot(figure, copy.deepcopy(results))


def invalid(claim: Claim, reason: str) -> Finding:
    """Make the finding that there is no evidence on a claim."""
    return Finding(claim.id, "invalid", None, None, "", "", reason)


def credible(finding: Finding) -> Finding:
    """Reduce a finding to plain finite numbers; one that has none where it needs them is invalid.

    Parameters
    ----------
    finding : Finding
        As an experiment returns it, perhaps with NumPy numbers or an infinite end of the interval.

    Returns
    -------
    Finding
        An infinite end has become None, the open end.
    """
    problem = "" if finding.verdict in VERDICTS else f"{finding.verdict!r} is no verdict"
    estimate = None if finding.estimate is None else float(finding.estimate)
    if estimate is not None and not math.isfinite(estimate):
        problem, estimate = problem or f"the estimate is {estimate}", None
    ends = [None if end is None else float(end) for end in finding.interval or ()]
    if any(end is not None and math.isnan(end) for end in ends):
        problem, ends = problem or "an end of the interval is not a number", []
    finite = [None if end is None or math.isinf(end) else end for end in ends]
    interval = (finite[0], finite[1]) if len(finite) == 2 else None
    if not problem:
        return replace(finding, estimate=estimate, interval=interval)
    reason = f"{problem}. {finding.reason}".strip()
    return replace(finding, verdict="invalid", estimate=estimate, interval=interval, reason=reason)
