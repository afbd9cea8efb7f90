"""Paired, interleaved timing: the only kind of clock reading that is evidence on a machine with other work to do.

A *round* does every task once, in random order, so that whatever slows the machine slows all of them. Ratios
are taken within a round, reduced to a median per *block* of consecutive rounds (neighbouring rounds are not
independent, and some are outliers), and the interval is Student's over blocks.

The clock is processor time where the system tells it finely, so that time given to other programs does not count. Code
under test has one thread and waits for nothing.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import InputError
from verify.statistics import Interval, t_interval

FINE = 1e-5
"""Seconds: a clock that ticks no slower serves."""

clock = time.process_time if time.get_clock_info("process_time").resolution <= FINE else time.perf_counter

Reading = TypeVar("Reading")


def interleaved(tasks: Mapping[str, Callable[[], Reading]], rng: np.random.Generator) -> dict[str, Reading]:
    """Do one round.

    Parameters
    ----------
    tasks : mapping of str to callable
        Each returns what it read off the clock; what it does before and after that is not timed.
    rng : numpy.random.Generator
        Draws the order: a task that always followed its twin would always find a warm cache.

    Returns
    -------
    dict
        What each task returned.
    """
    names = list(tasks)
    return {names[place]: tasks[names[place]]() for place in rng.permutation(len(names))}


@contextmanager
def without_collections() -> Iterator[None]:
    """Keep Python's garbage collector from running at a moment of its own choice."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def ratio(over: ArrayLike, under: ArrayLike, *, block: int, confidence: float = 0.95) -> Interval:
    """Estimate a paired ratio of times.

    Parameters
    ----------
    over, under : array_like (rounds,)
        Seconds, round by round; positive.
    block : int
        Rounds that make one block, at least; rounds that are left over make blocks longer.
    confidence : float
        Coverage, in (0, 1).

    Returns
    -------
    Interval
        Of the ratio ``over / under``.

    Raises
    ------
    InputError
        Lengths differ, or fewer than two blocks; see also `verify.statistics.t_interval`.

    Examples
    --------
    >>> ratio([2.0, 2.0, 9.0, 2.0, 2.0, 2.0], [1.0] * 6, block=3)
    Interval(estimate=2.0, low=2.0, high=2.0)
    """
    mine, theirs = np.asarray(over, dtype=np.float64), np.asarray(under, dtype=np.float64)
    if mine.shape != theirs.shape or mine.ndim != 1 or len(mine) < 2 * block:
        raise InputError(f"the times are {mine.shape} and {theirs.shape}; pass equally many, {2 * block} or more")
    logs = np.log(mine / theirs)
    middles = [float(np.median(part)) for part in np.array_split(logs, len(logs) // block)]
    found = t_interval(middles, confidence=confidence)
    return Interval(math.exp(found.estimate), math.exp(found.low), math.exp(found.high))
