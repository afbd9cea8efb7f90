"""Strict by configuration: floating-point errors raise, Hypothesis draws the same examples in every run."""

from __future__ import annotations

import os
import re
import signal

# One thread for linear algebra, before NumPy is loaded: on small matrices more threads only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import Phase, settings

settings.register_profile("ordinary", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile("fresh", derandomize=False, deadline=None, max_examples=300, print_blob=True)
# A mutant is killed by the first example that fails: to look for a smaller one takes until the time is out.
settings.register_profile(
    "mutation", derandomize=True, deadline=None, max_examples=10, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ordinary")


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in the background of a shell. Commands under test would inherit it, and ignore the Ctrl-C that they are sent.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Spread only a run of everything: one of named files is short, and pytest-benchmark wants a process of its own."""
    alone = config.option.numprocesses == "logical" and config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if alone else None


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


OTHERS, WITHOUT_OWN = 15, 100
"""Tests of other modules that are tried on a mutant (`verify.mutation`), and where it has no tests of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With a mutant run its module's own tests and the quickest others; mutmut passes the quick ones first."""
    mutant = re.match(r"(\w+)\.(\w+)\.\w+__mutmut_\d", os.environ.get("MUTANT_UNDER_TEST", ""))
    if mutant:
        own = {item.nodeid for item in items if item.nodeid.startswith(f"tests/{mutant[1]}/test_{mutant[2]}.py:")}
        most = OTHERS if own else WITHOUT_OWN
        others = {item.nodeid for item in [item for item in items if item.nodeid not in own][:most]}
        items[:] = [item for item in items if item.nodeid in own | others]
