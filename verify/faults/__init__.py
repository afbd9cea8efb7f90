"""Planted faults: one module per experiment, with the defects that its claims must catch."""

from __future__ import annotations

from collections.abc import Sequence

from verify.experiment import Experiment
from verify.faults import (
    calibration,
    convergence,
    cost,
    deep_convergence,
    deep_cost,
    deep_equality,
    deep_phase_diagram,
    deep_time,
    embedding,
    equality,
    events,
    fine_tuning,
    first_ratio,
    kernel_regression,
    lazy_width,
    low_rank,
    ntk,
    opponents,
    options,
    output_layer,
    page_witness,
    phase_diagram,
    practical_width,
    query_time,
    rectangular_product,
    regression,
    search,
    sensitivity,
    signals,
    solve_cost,
    solve_time,
    sparsity,
    stability,
    time,
    total_time,
    unshifted,
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
    *convergence.FAULTS,
    *first_ratio.FAULTS,
    *phase_diagram.FAULTS,
    *practical_width.FAULTS,
    *sensitivity.FAULTS,
    *kernel_regression.FAULTS,
    *unshifted.FAULTS,
    *lazy_width.FAULTS,
    *cost.FAULTS,
    *events.FAULTS,
    *output_layer.FAULTS,
    *query_time.FAULTS,
    *time.FAULTS,
    *total_time.FAULTS,
    *opponents.FAULTS,
    *solve_cost.FAULTS,
    *solve_time.FAULTS,
    *options.FAULTS,
    *deep_equality.FAULTS,
    *signals.FAULTS,
    *deep_convergence.FAULTS,
    *deep_phase_diagram.FAULTS,
    *deep_cost.FAULTS,
    *page_witness.FAULTS,
    *low_rank.FAULTS,
    *rectangular_product.FAULTS,
    *deep_time.FAULTS,
    *fine_tuning.FAULTS,
    *calibration.FAULTS,
)
"""All planted faults, in the order of the experiments."""


def check_registered(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments with a claim that no planted fault tries; see `verify.faults.fault.check`."""
    check(experiments, FAULTS)
