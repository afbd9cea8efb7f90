"""Planted faults of the convergence of many layers: short steps, perfect reports, other widths than asked for."""

from __future__ import annotations

from functools import partial

from verify.faults.deep_routines import Step04, few, in_whole_blocks, leaked_labels
from verify.faults.fault import Fault
from verify.faults.stepwise import Stepwise

FAULTS: tuple[Fault, ...] = (
    Fault(
        "deep-step-0.4",
        "Every step over several layers is 0.4 of what it should be.",
        "value",
        {
            "deep_convergence.random": "fails",
            "deep_convergence.deep": "fails",
            "deep_convergence.normalized": "fails",
            "deep_convergence.every": "fails",
            "deep_convergence.first_ratio": "fails",
        },
        {"start_deep": Step04},
        only=partial(few, 4),
    ),
    Fault(
        "deep-leaked-labels",
        "Training reports the labels as predictions, with residuals to match, and moves nothing.",
        "value",
        {
            "deep_convergence.random": "fails",
            "deep_convergence.deep": "fails",
            "deep_convergence.normalized": "fails",
            "deep_convergence.every": "fails",
            "deep_convergence.deep_sparse": "fails",
        },
        {"deep_train": leaked_labels, "start_deep": partial(Stepwise, leaked_labels)},
        only=partial(few, 6),
    ),
    Fault(
        "width-in-whole-blocks",
        "Networks are drawn with their width rounded up to a multiple of 512.",
        "value",
        {"deep_convergence.narrow": "fails"},
        {"deep_initialize": in_whole_blocks},
        only=partial(few, 20),
    ),
)
"""Each claim of `verify.claims.deep_convergence` is flipped by one of them at least."""
