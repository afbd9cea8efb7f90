"""Planted faults: one module per experiment, with the defects that its claims must catch."""

from __future__ import annotations

from collections.abc import Sequence

from verify.experiment import Experiment
from verify.faults import (
    deep_convergence,
    deep_cost,
    deep_equality,
    deep_phase_diagram,
    deep_time,
    embedding,
    equality,
    fine_tuning,
    low_rank,
    ntk,
    output_layer,
    rectangular_product,
    regression,
    search,
    signals,
    sparsity,
    stability,
)
from verify.faults.fault import Fault, check

FAULTS: tuple[Fault, ...] = (
    *equality.FAULTS,
    *sparsity.FAULTS,
    *stability.FAULTS,
    *ntk.FAULTS,
    *embedding.FAULTS,
    *regression.FAULTS,
    *search.FAULTS,
    *output_layer.FAULTS,
    *deep_equality.FAULTS,
    *signals.FAULTS,
    *deep_convergence.FAULTS,
    *deep_phase_diagram.FAULTS,
    *deep_cost.FAULTS,
    *low_rank.FAULTS,
    *rectangular_product.FAULTS,
    *deep_time.FAULTS,
    *fine_tuning.FAULTS,
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
)
"""Experiments whose faults are still to be planted."""


def check_registered(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments with a claim that no planted fault tries; see `verify.faults.fault.check`."""
    covered = [experiment for experiment in experiments if experiment.name not in NOT_YET]
    names = {experiment.name for experiment in covered}
    check(covered, [fault for fault in FAULTS if set(fault.experiments) <= names])
