"""Planted faults: one module per experiment, with the defects that its claims must catch."""

from __future__ import annotations

from verify.faults import output_layer
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (*output_layer.FAULTS,)
"""All planted faults, in the order of the experiments."""
