"""Planted faults of the cost of many layers: scans that are recorded or hidden, copies, opponents that are not dense.

A halved counter is in `verify.faults.low_rank`.
"""

from __future__ import annotations

from functools import partial

from fast.multi_layer_baselines import train_multi_layer_dense
from verify.faults.deep_routines import HiddenScan, WholeProducts, copied, start_on, train_by, train_on
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "whole-products",
        "Products with an upper matrix read all of it, forward and back, and say so.",
        "cost",
        {
            "deep_cost.exact": "fails",
            "deep_cost.forward_level": "fails",
            "deep_cost.forward_slope": "fails",
            "deep_cost.backward_level": "fails",
            "deep_cost.backward_slope": "fails",
            "deep_cost.forbidden": "fails",
            "deep_cost.witness": "fails",
            "fine_tuning.cost": "fails",
        },
        {"deep_train": partial(train_on, WholeProducts), "start_deep": partial(start_on, WholeProducts)},
    ),
    Fault(
        "unrecorded-dense-scan",
        "Every iteration multiplies by the whole of the last matrix and does not count that.",
        "cost",
        {
            "deep_cost.forward_level": "invalid",
            "deep_cost.forward_slope": "invalid",
            "deep_cost.backward_level": "invalid",
            "deep_cost.backward_slope": "invalid",
            "deep_cost.forbidden": "invalid",
            "deep_cost.witness": "fails",
        },
        {"deep_train": partial(train_by, HiddenScan), "start_deep": HiddenScan},
    ),
    Fault(
        "opponent-not-dense",
        "The loop that stands for a dense one leaves out the columns of neurons that fire nowhere.",
        "statistics",
        {"deep_cost.dense": "fails"},
        {"deep_train_dense": partial(train_multi_layer_dense, compact=True)},
    ),
    Fault(
        "unrecorded-copies",
        "Every matrix is copied before the start, and the counters do not tell.",
        "cost",
        {"deep_cost.once": "fails"},
        {"deep_train": copied},
    ),
)
"""Each claim of `verify.claims.deep_cost` is flipped by one of them, or the one named above, at least."""
