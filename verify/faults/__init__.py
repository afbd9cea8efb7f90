"""Planted faults: one module per experiment, with the defects that its claims must catch."""

from __future__ import annotations

from verify.faults import (
    kernel_regression,
    opponents,
    output_layer,
    practical_width,
    sensitivity,
    solve_cost,
    unshifted,
)
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *practical_width.FAULTS,
    *sensitivity.FAULTS,
    *kernel_regression.FAULTS,
    *unshifted.FAULTS,
    *output_layer.FAULTS,
    *opponents.FAULTS,
    *solve_cost.FAULTS,
)
"""All planted faults, in the order of the experiments."""
