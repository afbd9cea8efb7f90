"""One module per experiment; each decides the claims named after it."""

from __future__ import annotations

from verify.claims import (
    convergence,
    cost,
    deep_convergence,
    deep_equality,
    deep_phase_diagram,
    embedding,
    equality,
    events,
    first_ratio,
    lazy_width,
    ntk,
    phase_diagram,
    query_time,
    regression,
    search,
    signals,
    sparsity,
    stability,
    time,
    total_time,
)
from verify.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = (
    equality.EXPERIMENT,
    sparsity.EXPERIMENT,
    stability.EXPERIMENT,
    ntk.EXPERIMENT,
    embedding.EXPERIMENT,
    regression.EXPERIMENT,
    search.EXPERIMENT,
    convergence.EXPERIMENT,
    first_ratio.EXPERIMENT,
    phase_diagram.EXPERIMENT,
    lazy_width.EXPERIMENT,
    cost.EXPERIMENT,
    events.EXPERIMENT,
    query_time.EXPERIMENT,
    time.EXPERIMENT,
    total_time.EXPERIMENT,
    deep_equality.EXPERIMENT,
    signals.EXPERIMENT,
    deep_convergence.EXPERIMENT,
    deep_phase_diagram.EXPERIMENT,
)
"""All experiments, in the order of the report."""
