"""Planted faults of fine-tuning: structures built again, whole products in its iterations.

Training from fresh weights and handing back an earlier network are in `verify.faults.deep_equality`.
"""

from __future__ import annotations

from verify.faults.deep_routines import rebuilt
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "structures-rebuilt",
        "Fine-tuning writes the fitted weights out and builds its data structures on them anew.",
        "cost",
        {"fine_tuning.built_once": "fails"},
        {"deep_train": rebuilt},
    ),
)
"""Each claim of `verify.claims.fine_tuning` is flipped by one of them, or of the modules named above, at least."""
