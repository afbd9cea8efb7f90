"""Planted faults of fine-tuning: structures built again, whole products in its iterations.

Training from fresh weights and handing back an earlier network are in `verify.faults.deep_equality`.
"""

from __future__ import annotations

from functools import partial

from verify.faults.deep_routines import WholeProducts, few, rebuilt, train_on
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "whole-products-in-fine-tuning",
        "Products with a matrix read all of it, forward and back, also where a trained network is trained on.",
        "cost",
        {"fine_tuning.cost": "fails"},
        {"deep_train": partial(train_on, WholeProducts)},
        only=partial(few, 2),
    ),
    Fault(
        "structures-rebuilt",
        "Fine-tuning writes the fitted weights out and builds its data structures on them anew.",
        "cost",
        {"fine_tuning.built_once": "fails"},
        {"deep_train": rebuilt},
        only=partial(few, 2),
    ),
)
"""Each claim of `verify.claims.fine_tuning` is flipped by one of them, or of the modules named above, at least."""
