"""Faults that `verify.claims.options` must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

import fast.baselines
import fast.first_order
import fast.gauss_newton
import fast.multi_layer_gauss_newton
import fast.sketch
import reference.gauss_newton
import reference.network_file
import reference.safeguard
from fast.baselines import DenseRun
from fast.certified_scores import CertifiedScores
from fast.jacobian import FiredJacobian
from fast.low_rank import LowRankWeights
from fast.multi_layer import ImplicitMultiLayerNetwork
from fast.multi_layer_gauss_newton import MultiLayerRun, State
from fast.two_layer import ImplicitNetwork
from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, IntArray
from reference.safeguard import Move
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


class UnitPoints(ImplicitNetwork):
    """Divides points by their length before it predicts."""

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401
        """Predict."""
        return super().predict(X / np.linalg.norm(X, axis=1, keepdims=True))


def at_unit_length(*problem: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train two layers, and hand back a network that takes all points for unit ones."""
    trace = fast.gauss_newton.train(*problem, **options)
    network = UnitPoints(**{name: getattr(trace.network, name) for name in ImplicitNetwork.__dataclass_fields__})
    return replace(trace, network=network)


def boasts(*problem: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train, and say that the run converged."""
    return replace(fast.gauss_newton.train(*problem, **options), converged=True)


class ShortSteps(DenseRun):
    """Takes a tenth of every step."""

    def _step(self, g: FloatArray) -> int:
        return super()._step(0.1 * g)


def careless_rate(
    network: TwoLayerNetwork,
    X: FloatArray,
    y: FloatArray,
    *,
    learning_rate: float | None = None,
    **options: Any,  # noqa: ANN401
) -> Trace[Any]:
    """Descend at half the natural rate where none is given."""
    rate = fast.first_order.natural_rate(network, X) / 2 if learning_rate is None else learning_rate
    return fast.baselines.train_gradient_descent(network, X, y, learning_rate=rate, **options)


def forgets_velocity(*problem: Any, momentum: float = 0.0, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Descend in batches with next to no momentum, and charge for it."""
    if momentum and "batch" in options:
        momentum = float(np.finfo(np.float64).tiny)
    return fast.first_order.train_momentum(*problem, momentum=momentum, **options)


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


def save_by_rows(path: str, network: Any) -> None:  # noqa: ANN401
    """Write every matrix row by row."""
    dense = network.to_dense() if hasattr(network, "to_dense") else network
    if isinstance(dense, MultiLayerNetwork):
        dense = replace(dense, weights=tuple(map(np.ascontiguousarray, dense.weights)))
    reference.network_file.save(path, dense)


def forget_normalization(path: str) -> Any:  # noqa: ANN401
    """Read a network as a plain one."""
    network = reference.network_file.load(path)
    return replace(network, normalized=False) if isinstance(network, MultiLayerNetwork) else network


def not_doubled(current: float, trial: float, step_length: float) -> bool:
    """Take a residual for a smaller one unless it has doubled."""
    del step_length
    return trial <= 2 * current


def gives_up(*residuals: Any) -> Move:  # noqa: ANN401
    """Give up when the first step does not lower the residual."""
    return "accept" if reference.safeguard.next_move(*residuals) == "accept" else "stall"


def in_both(*patch: object) -> dict[str, Callable[..., object]]:
    """Train on either side with something replaced in the rules that both share."""
    routines = ("train", "reference_train", "deep_train", "deep_reference_train")
    return {routine: partial(call_with, *patch, getattr(CodeUnderTest(), routine)) for routine in routines}  # type: ignore[arg-type]


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
        in_both("reference.safeguard.fallen", not_doubled),
        only=partial(of, "shallow"),
    ),
    Fault(
        "safeguard-gives-up",
        "Both sides give up as soon as a full step does not lower the residual.",
        "value",
        {"options.safeguarded": "fails"},
        {
            "train": partial(call_with, "fast.training_run.next_move", gives_up, fast.gauss_newton.train),
            "reference_train": partial(
                call_with, "reference.safeguarded_run.next_move", gives_up, reference.gauss_newton.train
            ),
        },
        only=partial(of, "shallow"),
    ),
    Fault(
        "safeguard-impatient",
        "Both sides take every run for one that creeps.",
        "value",
        {"options.safeguarded": "fails"},
        in_both("reference.safeguard.STALL_WINDOW", 0),
        only=partial(of, "shallow"),
    ),
    Fault(
        "safeguard-never-looks-ahead",
        "Where looking ahead has succeeded, it is not tried again.",
        "value",
        {"options.safeguarded": "fails"},
        {
            "allowance_after": partial(
                call_with, "reference.safeguard.LOOK_AHEAD", 0, reference.safeguard.allowance_after
            )
        },
        only=partial(of, "shallow"),
    ),
    Fault(
        "safeguard-one-halving",
        "One shorter step is tried and no more.",
        "value",
        {"options.safeguarded": "fails"},
        {"next_move": partial(call_with, "reference.safeguard.HALVINGS", 1, reference.safeguard.next_move)},
        only=partial(of, "shallow"),
    ),
    Fault(
        "safeguard-endless",
        "No run is ever taken for one that creeps.",
        "value",
        {"options.safeguarded": "fails"},
        {"crept": partial(call_with, "reference.safeguard.STALL_RATIO", 1.0, reference.safeguard.crept)},
        only=partial(of, "shallow"),
    ),
    Fault(
        "always-converged",
        "Every run says that it converged.",
        "value",
        {"options.conjugate": "fails", "options.safeguarded": "fails"},
        {"train": boasts},
        only=partial(of, "shallow"),
    ),
    Fault(
        "unit-points",
        "Trained networks of two layers divide points by their length before they predict.",
        "value",
        {"options.conjugate": "fails", "options.safeguarded": "fails"},
        {"train": at_unit_length},
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
        "descent-held-back",
        "Gradient descent takes a tenth of every step.",
        "value",
        {"options.first_order": "fails"},
        {
            "train_gradient_descent": partial(
                call_with, "fast.baselines.DenseRun", ShortSteps, fast.baselines.train_gradient_descent
            )
        },
        only=partial(of, "first_order"),
    ),
    Fault(
        "descent-at-a-poor-rate",
        "Gradient descent does not seek the best rate where none is given.",
        "value",
        {"options.first_order": "fails"},
        {"train_gradient_descent": careless_rate},
        only=partial(of, "first_order"),
    ),
    Fault(
        "batches-without-momentum",
        "In batches, momentum is charged for and not used.",
        "value",
        {"options.first_order": "fails"},
        {"train_momentum": forgets_velocity},
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
        "files-by-rows",
        "All matrices are written to files row by row, in whatever order they are.",
        "value",
        {"options.files": "fails"},
        {"save_network": save_by_rows},
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
