"""Faults that `verify.claims.options` must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

import fast.first_order
import fast.gauss_newton
import fast.multi_layer_gauss_newton
import fast.sketch
import reference.network_file
from fast.certified_scores import CertifiedScores
from fast.jacobian import FiredJacobian
from fast.low_rank import LowRankWeights
from fast.multi_layer import ImplicitMultiLayerNetwork
from fast.multi_layer_gauss_newton import MultiLayerRun, State
from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, IntArray
from reference.sketch import SparseEmbeddingDraw, TensorSketchDraw, TensorSRHTDraw
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.experiment import CodeUnderTest, Inputs
from verify.faults.fault import Fault, call_with

Train = Callable[..., Trace[Any]]


def of(part: str, inputs: Inputs) -> bool:
    """Keep the cells of one part, of one seed."""
    return bool(inputs["part"] == part and inputs["seed"] == 0)


def changes_option(*problem: Any, train: Train, option: str, to: dict[str, Any], **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train with other options than asked for, where one of them is asked for."""
    return train(*problem, **(options | to if option in options else options))


class BlocksReversed(ImplicitMultiLayerNetwork):
    """Gives back the predictions of later blocks of points in the wrong order."""

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401
        """Predict."""
        found = super().predict(X)
        return np.concatenate([found[:64], found[64:][::-1]])


def blocks_reversed(*problem: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train, and hand back a network that mixes up points."""
    trace = fast.multi_layer_gauss_newton.train(*problem, **options)
    network = BlocksReversed(trace.network.initial, trace.network.layers)
    return Trace(network, *(getattr(trace, name) for name in list(Trace.__dataclass_fields__)[1:]))


def held_back(*problem: Any, learning_rate: float, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Descend with a learning rate 1% smaller than asked for."""
    return fast.first_order.train_momentum(*problem, learning_rate=0.99 * learning_rate, **options)


def short_memory(*problem: Any, memory: int, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Let L-BFGS remember one step less."""
    return fast.first_order.train_lbfgs(*problem, memory=memory - 1, **options)


def overcharged(*problem: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Let Adam count its sums of vectors twice."""
    trace = fast.first_order.train_adam(*problem, **options)
    for counts in trace.counts:
        counts["combine"] *= 2
    return trace


def lost_sign(draw: SparseEmbeddingDraw | TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    """Sketch a Jacobian without the signs of the sparse embedding."""
    if isinstance(draw, SparseEmbeddingDraw):
        draw = SparseEmbeddingDraw(draw.rows, np.abs(draw.signs), draw.size)
    return fast.sketch.sketch_jacobian(draw, jacobian)


def next_row(draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array) -> FloatArray:
    """Sketch factors, each row one place too low: lengths do not notice."""
    return np.roll(fast.sketch.sketch_tensors(draw, left, right), 1, axis=0)


class CountedTwice(MultiLayerRun):
    """Writes steps out as weights, and keeps what was written out."""

    def _fold(self, layers: list[LowRankWeights], coefficients: sparse.csr_array) -> list[LowRankWeights]:
        self.written = coefficients
        return super()._fold(layers, coefficients)

    def _try(self, g: FloatArray) -> State:
        trial = super()._try(g)
        return replace(trial, coefficients=self.written) if trial.rounding == 0 else trial


class StaleScores(CertifiedScores):
    """Takes the entries at hand for those of any other columns, if there are as many."""

    def _entries(self, weights: LowRankWeights, i: int, neurons: IntArray, columns: IntArray) -> FloatArray:
        kept = self.blocks[i]
        if kept is not None and len(kept.columns) == len(columns):
            columns = kept.columns
        return super()._entries(weights, i, neurons, columns)


class StaleWeights(MultiLayerRun):
    """Keeps such scores."""

    def _prepare(self, layers: list[LowRankWeights]) -> State:
        state = super()._prepare(layers)
        for scores in self.certified:
            scores.__class__ = StaleScores
        return state


def train_by(
    *problem: Any,  # noqa: ANN401
    run: type[MultiLayerRun],
    iterations: int,
    tolerance: float = 0.0,
    **options: Any,  # noqa: ANN401
) -> Trace[Any]:
    """Train by a faulty loop."""
    return run(*problem, **options).run(iterations, tolerance)


def save_in_single(path: str, network: Any) -> None:  # noqa: ANN401
    """Write the network in single precision."""
    dense = network.to_dense() if hasattr(network, "to_dense") else network
    if isinstance(dense, TwoLayerNetwork):
        dense = replace(dense, weights=dense.weights.astype(np.float32).astype(np.float64))
    reference.network_file.save(path, dense)


def forget_normalization(path: str) -> Any:  # noqa: ANN401
    """Read a network as a plain one."""
    network = reference.network_file.load(path)
    return replace(network, normalized=False) if isinstance(network, MultiLayerNetwork) else network


def not_doubled(current: float, trial: float, step_length: float) -> bool:
    """Take a residual for a smaller one unless it has doubled."""
    del step_length
    return trial <= 2 * current


DEEP: Train = fast.multi_layer_gauss_newton.train

FAULTS: tuple[Fault, ...] = (
    Fault(
        "conjugate-loose",
        "Training without a factor solves to a relative 1e-4 only.",
        "value",
        {"options.conjugate": "fails"},
        {
            "train": partial(changes_option, train=fast.gauss_newton.train, option="solver", to={"accuracy": 1e-4}),
            "deep_train": partial(changes_option, train=DEEP, option="solver", to={"accuracy": 1e-4}),
        },
    ),
    Fault(
        "points-mixed-up",
        "Of many points, deep networks predict those after the first block in reverse order.",
        "value",
        {"options.conjugate": "fails", "options.safeguarded": "fails"},
        {"deep_train": blocks_reversed},
        only=partial(of, "deep"),
    ),
    Fault(
        "safeguard-off",
        "Safeguarded training takes every full step.",
        "value",
        {"options.safeguarded": "fails"},
        {"train": partial(changes_option, train=fast.gauss_newton.train, option="step", to={"step": "full"})},
        only=partial(of, "shallow"),
    ),
    Fault(
        "deep-safeguard-off",
        "Safeguarded training of many layers takes every full step.",
        "value",
        {"options.safeguarded": "fails"},
        {"deep_train": partial(changes_option, train=DEEP, option="step", to={"step": "full"})},
        only=partial(of, "deep"),
    ),
    Fault(
        "safeguard-lets-climb",
        "The rule that both sides share lets the residual double.",
        "value",
        {"options.safeguarded": "fails"},
        {
            routine: partial(
                call_with, "reference.safeguard.fallen", not_doubled, getattr(CodeUnderTest(), routine)
            )
            for routine in ("train", "reference_train", "deep_train", "deep_reference_train")
        },
        only=partial(of, "shallow"),
    ),
    Fault(
        "steps-counted-twice",
        "Steps that are written out as weights, lest digits are lost, are kept as factors too.",
        "value",
        {"options.parallel": "fails"},
        {"deep_train": partial(train_by, run=CountedTwice)},
        only=partial(of, "near_deep"),
    ),
    Fault(
        "weights-of-another-state",
        "Deep runs take weights that they keep at hand for those of other neurons below, if these are as many.",
        "value",
        {"options.small": "fails"},
        {"deep_train": partial(train_by, run=StaleWeights)},
        only=partial(of, "small"),
    ),
    Fault(
        "opponents-held-back",
        "Momentum takes a learning rate 1% smaller than it is given.",
        "value",
        {"options.first_order": "fails"},
        {"train_momentum": held_back},
        only=partial(of, "first_order"),
    ),
    Fault(
        "lbfgs-forgets",
        "L-BFGS remembers one step less than it should.",
        "value",
        {"options.first_order": "fails"},
        {"train_lbfgs": short_memory},
        only=partial(of, "first_order"),
    ),
    Fault(
        "opponents-overcharged",
        "Adam counts its sums of vectors twice, which makes Gauss-Newton look better.",
        "cost",
        {"options.first_order": "fails"},
        {"train_adam": overcharged},
        only=partial(of, "first_order"),
    ),
    Fault(
        "embedding-without-signs",
        "Jacobians are sketched without the signs of the sparse embedding.",
        "value",
        {"options.sketches": "fails"},
        {"sketch_jacobian": lost_sign},
        only=partial(of, "sketches"),
    ),
    Fault(
        "sketch-one-row-off",
        "Sketches of factors have each row one place too low, which no length notices.",
        "value",
        {"options.sketches": "fails"},
        {"sketch_tensors": next_row},
        only=partial(of, "sketches"),
    ),
    Fault(
        "files-in-single",
        "Networks of two layers are written to files in single precision.",
        "value",
        {"options.files": "fails"},
        {"save_network": save_in_single},
        only=partial(of, "files"),
    ),
    Fault(
        "files-forget",
        "Networks read from files are never normalized.",
        "value",
        {"options.files": "fails"},
        {"load_network": forget_normalization},
        only=partial(of, "files"),
    ),
)
