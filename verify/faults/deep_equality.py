"""Planted faults of training many layers: wrong steps, wrong derivatives, wrong solvers, wrong starts and reports."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fast.multi_layer_gauss_newton import MultiLayerRun
from fast.regression import solve_cholesky
from reference.notation import FloatArray
from verify.faults.deep_routines import (
    NoProjection,
    StaleJacobian,
    Step09,
    at_unit_length,
    few,
    fire_from_zero_on,
    forgetful,
    one_less,
    train,
    train_by,
    train_last_layer_with_its_shift_frozen,
)
from verify.faults.fault import Fault, call_with


class Ridge(MultiLayerRun):
    """Solves with ``G + 1e-6``."""

    def _solve(self) -> FloatArray:
        G = self._gram()
        return solve_cholesky(G + 1e-6 * np.eye(len(G)), self.residual)


class SinglePrecision(MultiLayerRun):
    """Rounds ``G`` to single precision."""

    def _solve(self) -> FloatArray:
        return solve_cholesky(self._gram().astype(np.float32).astype(np.float64), self.residual)


class BiasedSketch(MultiLayerRun):
    """Takes for ``G`` what a tensor sketch without random signs makes of it, where it should precondition."""

    def _solve(self) -> FloatArray:
        jacobian = self.state.jacobian
        if self.solver != "sketch" or jacobian is None:
            return super()._solve()
        draws = [
            replace(draw, left_signs=np.ones(draw.left_dim), right_signs=np.ones(draw.right_dim))
            for draw in self.draws
        ]
        sketched = jacobian.sketch(draws)
        return solve_cholesky(sketched.T @ sketched, self.residual)

    def _check_every_point_fires(self) -> None:
        super()._check_every_point_fires()
        self._gram()


FAULTS: tuple[Fault, ...] = (
    Fault(
        "deep-step-0.9",
        "Every step over several layers is 0.9 of what it should be.",
        "value",
        {
            "deep_equality.one_step": "fails",
            "deep_equality.cholesky": "fails",
            "deep_equality.sketch": "fails",
            "deep_equality.normalized": "fails",
            "deep_equality.resumed": "fails",
        },
        {"deep_train": partial(train_by, Step09)},
        only=partial(few, 1),
    ),
    Fault(
        "deep-stale-sets",
        "Who fires, and the sensitivities, are those of the first iteration for good.",
        "value",
        {
            "deep_equality.cholesky": "fails",
            "deep_equality.sketch": "fails",
            "deep_equality.normalized": "fails",
            "deep_equality.resumed": "fails",
        },
        {"deep_train": partial(train_by, StaleJacobian)},
        only=partial(few, 1),
    ),
    Fault(
        "no-projection",
        "Sensitivities pass a normalized layer as if it were plain.",
        "value",
        {"deep_equality.one_step": "fails", "deep_equality.normalized": "fails"},
        {"deep_train": partial(train_by, NoProjection)},
        only=partial(few, 1),
    ),
    Fault(
        "deep-ridge",
        "The Gram matrix is solved with 1e-6 added to its diagonal.",
        "value",
        {"deep_equality.one_step": "fails", "deep_equality.cholesky": "fails", "deep_equality.normalized": "fails"},
        {"deep_train": partial(train_by, Ridge)},
        only=partial(few, 1),
    ),
    Fault(
        "deep-float32-gram",
        "The Gram matrix is rounded to single precision.",
        "value",
        {"deep_equality.one_step": "fails"},
        {"deep_train": partial(train_by, SinglePrecision)},
        only=partial(few, 1),
    ),
    Fault(
        "deep-loose-solver",
        "The sketched solver stops at a relative residual of 1e-3.",
        "value",
        {"deep_equality.sketch": "fails"},
        {"deep_train": partial(train, accuracy=1e-3)},
        only=partial(few, 1),
    ),
    Fault(
        "biased-sketch-for-gram",
        "The sketched solver takes for G what a biased tensor sketch makes of it, and does not iterate.",
        "value",
        {"deep_equality.sketch": "fails"},
        {"deep_train": partial(train_by, BiasedSketch)},
        only=partial(few, 1),
    ),
    Fault(
        "last-layer-frozen-shift",
        "The last layer alone is trained with the shift of the network, not scaled as its inputs are.",
        "value",
        {"deep_equality.last_layer": "fails"},
        {"deep_train": train_last_layer_with_its_shift_frozen},
        only=partial(few, 1),
    ),
    Fault(
        "fresh-weights",
        "Training that goes on starts from the weights before the earlier run.",
        "value",
        {"deep_equality.resumed": "fails", "fine_tuning.agreement": "fails"},
        {"deep_train": forgetful},
        only=partial(few, 2),
    ),
    Fault(
        "network-one-step-back",
        "The network handed back is that of one iteration before the last.",
        "value",
        {
            "deep_equality.one_step": "fails",
            "deep_equality.last_layer": "fails",
            "fine_tuning.fits": "fails",
            "fine_tuning.last_layer": "fails",
        },
        {"deep_train": one_less},
        only=partial(few, 2),
    ),
    Fault(
        "deep-unit-points",
        "Trained networks divide points by their length before they predict.",
        "value",
        {
            "deep_equality.cholesky": "fails",
            "deep_equality.sketch": "fails",
            "deep_equality.last_layer": "fails",
            "deep_equality.normalized": "fails",
        },
        {"deep_train": at_unit_length},
        only=partial(few, 1),
    ),
    Fault(
        "negative-shift-cut",
        "A negative shift is taken for 0 where it is asked who fires.",
        "value",
        {
            "deep_equality.one_step": "fails",
            "deep_equality.cholesky": "fails",
            "deep_equality.sketch": "fails",
            "deep_equality.resumed": "fails",
        },
        {
            "deep_train": partial(
                call_with,
                "fast.multi_layer.fire",
                fire_from_zero_on,
                partial(call_with, "fast.multi_layer_gauss_newton.fire", fire_from_zero_on, train),
            )
        },
        only=partial(few, 1),
    ),
)
"""Each claim of `verify.claims.deep_equality` is flipped by one of them at least."""
