"""The vocabulary of the harness: claims, experiments that decide them, cells of measurement, findings.

An *experiment* decides one or more *claims* in three stages that share nothing but plain JSON::

    cells(profile)              what to measure: a list of JSON-able inputs, one per cell, fixed beforehand
    measure(inputs, rng, code)  one cell: run the code under test, return JSON-able numbers; no opinion
    decide(results)             from all cells, one Finding per claim; no measurement

So a sweep can run its cells anywhere and in any order, resume after a kill, and render its report twice to the same
bytes. The code under test comes in as a `CodeUnderTest`, so that a planted fault is a replaced field and not a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import fast.baselines
import fast.first_order
import fast.gauss_newton
import fast.gram
import fast.lazy_width
import fast.low_rank
import fast.multi_layer
import fast.multi_layer_baselines
import fast.multi_layer_gauss_newton
import fast.output_layer
import fast.rectangular_product
import fast.regression
import fast.shifted_ntk
import fast.sketch
import fast.threshold_search
import reference.baselines
import reference.gauss_newton
import reference.multi_layer
import reference.multi_layer_gauss_newton
import reference.network_file
import reference.output_layer
import reference.regression
import reference.signals
import reference.threshold_search
import reference.two_layer

Verdict = Literal["holds", "fails", "undecided", "invalid"]
"""holds: the interval lies inside the margin; fails: outside; undecided: neither; invalid: there is no evidence."""

Inputs = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Profile:
    """How much to measure: the default run, or ``--thorough``."""

    thorough: bool = False


@dataclass(frozen=True)
class Claim:
    """One statement that can be true or false.

    Parameters
    ----------
    id : str
        ``experiment.part``, for instance ``sparsity.level``.
    statement : str
        One sentence, in words a newcomer can follow; the claim is that this sentence is true.
    source : str
        Paper and item, or "ours".
    """

    id: str
    statement: str
    source: str


@dataclass(frozen=True)
class Finding:
    """What was found about one claim.

    Parameters
    ----------
    claim : str
        The claim's id.
    verdict : Verdict
        See `Verdict`.
    estimate : float
        The measured effect.
    interval : tuple of two floats
        Its interval; an open end is ``None``.
    margin : str
        The relation that decides, with its numbers, for instance ``"<= 0.81"`` or ``"within +-0.02 of 0"``.
    domain : str
        Sizes, law of the data and shift for which the verdict speaks.
    reason : str
        One plain sentence: why this verdict.
    """

    claim: str
    verdict: Verdict
    estimate: float | None
    interval: tuple[float | None, float | None] | None
    margin: str
    domain: str
    reason: str


@dataclass(frozen=True)
class Experiment:
    """A way to decide some claims; see the module docstring for the three stages.

    Parameters
    ----------
    name : str
        The part of the claims' ids before the dot.
    title : str
        Heading in the report.
    claims : tuple of Claim
        The claims that `decide` finds about, in the same order.
    cells, measure, decide : callable
        The three stages.
    plot : callable, optional
        ``plot(figure, results)`` draws the evidence on a matplotlib Figure. The first line of its docstring, less
        the word "Draw", is the caption in the report.
    timed : bool
        Whether cells read the clock; such cells run alone.
    """

    name: str
    title: str
    claims: tuple[Claim, ...]
    cells: Callable[[Profile], list[Inputs]]
    measure: Callable[[Inputs, np.random.Generator, CodeUnderTest], Result]
    decide: Callable[[Sequence[tuple[Inputs, Result]]], list[Finding]]
    plot: Callable[[Any, Sequence[tuple[Inputs, Result]]], None] | None = None
    timed: bool = False


@dataclass(frozen=True)
class CodeUnderTest:
    """The routines that claims are about. The defaults are the project's own; a planted fault replaces one field.

    Parameters
    ----------
    initialize : callable
        Draws a network; see `reference.two_layer.initialize`.
    reference_train, train, train_dense, train_compacted, train_gradient_descent, reference_gradient_descent : callable
        Training loops; see `reference.gauss_newton`, `fast.gauss_newton`, `fast.baselines` and `reference.baselines`.
    train_momentum, train_adam, train_lbfgs, natural_rate : callable
        First-order opponents; see `fast.first_order`.
    start, start_events, start_dense : callable
        The loops prepared but not yet iterating; see `fast.gauss_newton.TreeRun`, `EventRun` there and
        `fast.baselines.DenseRun`.
    lazy_initialize : callable
        Draws only the neurons that fire; see `fast.lazy_width.initialize`.
    joint_reference_train, joint_train, start_joint : callable
        Training of both layers, and the fast loop prepared but not yet iterating; see `reference.output_layer`,
        `fast.output_layer.train` and `fast.output_layer.JointRun`.
    forest : type
        See `fast.threshold_search.ThresholdForest`.
    max_tree, scan : type and callable
        The plain tree of one data point, and a look at every score; see `reference.threshold_search`.
    gram, shifted_ntk : callable
        See `fast.gram.gram` and `fast.shifted_ntk.shifted_ntk`.
    deep_initialize, deep_reference_train, deep_train, deep_train_dense : callable
        The same for many layers; see `reference.multi_layer`, `reference.multi_layer_gauss_newton`,
        `fast.multi_layer_gauss_newton` and `fast.multi_layer_baselines`.
    start_deep, start_deep_dense : callable
        The loops prepared; see `fast.multi_layer_gauss_newton.MultiLayerRun` and
        `fast.multi_layer_baselines.MultiLayerDenseRun`.
    last_layer : type
        See `fast.multi_layer_gauss_newton.LastLayer`.
    low_rank : type
        See `fast.low_rank.LowRankWeights`.
    sketch, sketch_jacobian, sketch_tensors, solve_sketched, solve_conjugate, reference_solve_sketched : callable
        See `fast.sketch`, `fast.regression` and `reference.regression`.
    warm_cholesky, tensor_jacobian : type
        See `fast.regression.WarmCholesky` and `fast.multi_layer.TensorJacobian`.
    rectangular_product, rectangular_multiplications, rectangular_error_bound : callable
        See `fast.rectangular_product`.
    shift_for, second_moment : callable
        The constants that theory gives; see `reference.two_layer` and `reference.signals`.
    save_network, load_network : callable
        See `reference.network_file`.
    signal_spread, signal_gain, wide_enough : callable
        What is predicted about signals in depth; see `reference.signals`.
    """

    initialize: Callable[..., Any] = reference.two_layer.initialize
    reference_train: Callable[..., Any] = reference.gauss_newton.train
    train: Callable[..., Any] = fast.gauss_newton.train
    start: Callable[..., Any] = fast.gauss_newton.TreeRun
    start_events: Callable[..., Any] = fast.gauss_newton.EventRun
    lazy_initialize: Callable[..., Any] = fast.lazy_width.initialize
    train_dense: Callable[..., Any] = fast.baselines.train_dense
    train_compacted: Callable[..., Any] = fast.baselines.train_compacted
    start_dense: Callable[..., Any] = fast.baselines.DenseRun
    train_gradient_descent: Callable[..., Any] = fast.baselines.train_gradient_descent
    reference_gradient_descent: Callable[..., Any] = reference.baselines.train_gradient_descent
    train_momentum: Callable[..., Any] = fast.first_order.train_momentum
    train_adam: Callable[..., Any] = fast.first_order.train_adam
    train_lbfgs: Callable[..., Any] = fast.first_order.train_lbfgs
    natural_rate: Callable[..., Any] = fast.first_order.natural_rate
    joint_reference_train: Callable[..., Any] = reference.output_layer.train
    joint_train: Callable[..., Any] = fast.output_layer.train
    start_joint: Callable[..., Any] = fast.output_layer.JointRun
    forest: type[fast.threshold_search.ThresholdForest] = fast.threshold_search.ThresholdForest
    max_tree: type[reference.threshold_search.MaxTree] = reference.threshold_search.MaxTree
    scan: Callable[..., Any] = reference.threshold_search.scan
    gram: Callable[..., Any] = fast.gram.gram
    shifted_ntk: Callable[..., Any] = fast.shifted_ntk.shifted_ntk
    deep_initialize: Callable[..., Any] = reference.multi_layer.initialize
    deep_reference_train: Callable[..., Any] = reference.multi_layer_gauss_newton.train
    deep_train: Callable[..., Any] = fast.multi_layer_gauss_newton.train
    deep_train_dense: Callable[..., Any] = fast.multi_layer_baselines.train_multi_layer_dense
    start_deep: Callable[..., Any] = fast.multi_layer_gauss_newton.MultiLayerRun
    last_layer: Callable[..., Any] = fast.multi_layer_gauss_newton.LastLayer
    start_deep_dense: Callable[..., Any] = fast.multi_layer_baselines.MultiLayerDenseRun
    low_rank: type[fast.low_rank.LowRankWeights] = fast.low_rank.LowRankWeights
    sketch: Callable[..., Any] = fast.sketch.apply
    sketch_jacobian: Callable[..., Any] = fast.sketch.sketch_jacobian
    sketch_tensors: Callable[..., Any] = fast.sketch.sketch_tensors
    solve_sketched: Callable[..., Any] = fast.regression.solve_sketched
    solve_conjugate: Callable[..., Any] = fast.regression.solve_conjugate
    reference_solve_sketched: Callable[..., Any] = reference.regression.solve_sketched
    warm_cholesky: type[fast.regression.WarmCholesky] = fast.regression.WarmCholesky
    tensor_jacobian: type[fast.multi_layer.TensorJacobian] = fast.multi_layer.TensorJacobian
    save_network: Callable[..., Any] = reference.network_file.save
    load_network: Callable[..., Any] = reference.network_file.load
    rectangular_product: Callable[..., Any] = fast.rectangular_product.multiply
    rectangular_multiplications: Callable[..., Any] = fast.rectangular_product.multiplications
    rectangular_error_bound: Callable[..., Any] = fast.rectangular_product.error_bound
    shift_for: Callable[..., Any] = reference.two_layer.shift_for
    second_moment: Callable[..., Any] = reference.signals.second_moment
    signal_spread: Callable[..., Any] = reference.signals.spread
    signal_gain: Callable[..., Any] = reference.signals.gain
    wide_enough: Callable[..., Any] = reference.signals.wide_enough
