"""Strict by configuration: floating-point errors raise, Hypothesis draws the same examples in every run."""

from __future__ import annotations

import os

# One thread for linear algebra, before NumPy is loaded: on small matrices more threads only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("ordinary", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile("fresh", derandomize=False, deadline=None, max_examples=300, print_blob=True)
settings.load_profile("ordinary")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Spread only a run of everything: one of named files is short, and pytest-benchmark wants a process of its own."""
    alone = config.option.numprocesses == "logical" and config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if alone else None


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield
