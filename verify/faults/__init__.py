"""Planted faults: one module per experiment, with the defects that its claims must catch."""

from __future__ import annotations

from collections.abc import Sequence

from verify.experiment import Experiment
from verify.faults import (
    calibration,
    embedding,
    equality,
    ntk,
    output_layer,
    page_witness,
    regression,
    search,
    sparsity,
    stability,
)
from verify.faults.fault import Fault, check

FAULTS: tuple[Fault, ...] = (
    *calibration.FAULTS,
    *equality.FAULTS,
    *sparsity.FAULTS,
    *stability.FAULTS,
    *ntk.FAULTS,
    *embedding.FAULTS,
    *regression.FAULTS,
    *search.FAULTS,
    *output_layer.FAULTS,
    *page_witness.FAULTS,
)
"""All planted faults, in the order of the experiments."""

NOT_YET = (
    "convergence",
    "first_ratio",
    "phase_diagram",
    "lazy_width",
    "cost",
    "events",
    "query_time",
    "time",
    "total_time",
    "deep_equality",
    "signals",
    "deep_convergence",
    "deep_phase_diagram",
    "deep_cost",
    "low_rank",
    "rectangular_product",
    "deep_time",
    "fine_tuning",
)
"""Experiments whose faults are still to be planted."""


def check_registered(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments with a claim that no planted fault tries; see `verify.faults.fault.check`."""
    covered = [experiment for experiment in experiments if experiment.name not in NOT_YET]
    names = {experiment.name for experiment in covered}
    check(covered, [fault for fault in FAULTS if set(fault.experiments) <= names])
