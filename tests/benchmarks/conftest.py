"""One problem for all benchmarks, and the facts that are stored with every time: sizes, counts, ratios to opponents.

The width is part of every test's name, so that pytest-benchmark never compares times of two widths.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fast.jacobian import FiredJacobian
from fast.two_layer import fired_pairs
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify.problems import Problem, make
from verify.seeds import generator
from verify.timing import clock, interleaved, ratio, without_collections

N, D, ALPHA = 64, 32, 0.24
SMALL_WIDTH = 512
FEWEST = 1024
"""Every benchmark is known to run at this width; far below it the Gram matrix becomes singular."""

Record = Callable[..., None]
Beside = Callable[..., None]
Ready = Callable[[str], Callable[[], object]]
RATIO_ROUNDS, RATIO_BLOCK = 12, 2
SHORTEST = 1e-3
"""Seconds that a reading of a routine that can be repeated takes at least."""


def chosen_width() -> int:
    """Return the width set by the environment variable BENCHMARK_WIDTH."""
    text = os.environ.get("BENCHMARK_WIDTH", "8192")
    if not text.isdecimal() or int(text) < FEWEST:
        raise pytest.UsageError(f"BENCHMARK_WIDTH is {text!r}; set a whole number of at least {FEWEST}")
    return int(text)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Store what decides the speed of NumPy, so that a comparison across settings is noticed."""
    machine_info["numpy"] = np.__version__
    machine_info["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    # Clock frequencies are measured at this moment where the processor does not advertise one: with them, no
    # two runs would count as from one machine.
    for key in [key for key in machine_info["cpu"] if key.startswith("hz_")]:
        del machine_info["cpu"][key]


def pytest_benchmark_compare_machine_info(
    machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Refuse a baseline from other circumstances; pytest-benchmark's own warning would end in a traceback."""
    now, saved = json.loads(json.dumps(machine_info)), compared_benchmark["machine_info"]
    different = [key for key in sorted({*now, *saved}) if now.get(key) != saved.get(key)]
    if different:
        raise pytest.UsageError(
            f"the baseline was saved with another {', '.join(different)}, so its times do not compare; "
            "save a new one with --benchmark-autosave, or choose another with --benchmark-compare=NUMBER"
        )


@pytest.fixture(scope="session", params=[chosen_width()], ids="m={}".format)
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="session")
def problem() -> Problem:
    return make("random", N, D, generator(0, "benchmark problem"))


@pytest.fixture(scope="session")
def network(width: int) -> TwoLayerNetwork:
    return initialize(width, D, shift=shift_for(width, ALPHA), rng=generator(0, "benchmark network", width))


@pytest.fixture(scope="session", params=[SMALL_WIDTH], ids="m={}".format)
def small_network(request: pytest.FixtureRequest) -> TwoLayerNetwork:
    """Return a network on which the reference, of cost ``n^2 m d``, is quick enough."""
    width = int(request.param)
    return initialize(width, D, shift=shift_for(width, ALPHA), rng=generator(0, "benchmark network", width))


@pytest.fixture
def make_jacobian(network: TwoLayerNetwork, problem: Problem) -> Callable[[], FiredJacobian]:
    """Return a function that makes the Jacobian with nothing computed in advance."""
    fired, _ = fired_pairs(network.weights, problem.X, network.shift)
    return lambda: FiredJacobian(problem.X, fired, network.signs[fired.neuron_index])


@pytest.fixture
def record(benchmark: BenchmarkFixture) -> Record:
    """Return a function that stores sizes and counts beside the times."""

    def record(network: TwoLayerNetwork, **counts: float) -> None:
        benchmark.extra_info.update(m=network.width, n=N, d=network.dim, shift=network.shift, **counts)

    return record


@pytest.fixture
def beside(benchmark: BenchmarkFixture) -> Beside:
    """Return a function that stores how many times faster a routine is than its opponents.

    All run interleaved in this process, a few times. ``ready`` takes a name, prepares and returns what is timed, afresh
    for every round. With ``repeated`` that leaves its input as it was, and is called often enough for a proper reading.
    Nothing is done for the opponents themselves, nor in a plain run of the tests.
    """

    def beside(name: str, opponents: Sequence[str], ready: Ready, *, repeated: bool = False) -> None:
        if benchmark.disabled or name in opponents:
            return
        names = (name, *opponents)
        repeats = {each: math.ceil(SHORTEST / seconds(ready(each), 1)) if repeated else 1 for each in names}
        tasks = {each: partial(read, ready, each, repeats[each]) for each in names}
        rng = generator(0, "benchmark ratio", benchmark.fullname)
        with without_collections():
            rounds = [interleaved(tasks, rng) for _ in range(RATIO_ROUNDS)]
        times = {each: [readings[each] for readings in rounds] for each in names}
        benchmark.extra_info["times as fast as"] = {
            each: asdict(ratio(times[each], times[name], block=RATIO_BLOCK)) for each in opponents
        }

    return beside


def read(ready: Ready, name: str, repeats: int) -> float:
    return seconds(ready(name), repeats)


def seconds(act: Callable[[], object], repeats: int) -> float:
    """Time one call, as the mean over repeats."""
    before = clock()
    for _ in range(repeats):
        act()
    return (clock() - before) / repeats
