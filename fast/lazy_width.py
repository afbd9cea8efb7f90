"""Networks of which only the neurons that fire exist: widths up to 2^50, at a cost that follows the fired neurons.

Mathematics (ours). ``N`` points ``p_i`` are in use: the rows of ``X`` to train on, then those of ``unseen`` to predict
on. A neuron ``w ~ N(0, I_d)`` fires on ``p_i`` when it lies in the half-space ``F_i = {w: <w, p_i> >= b}``. A neuron
outside their union ``F`` adds 0 to every prediction there, has zero gradient and never moves, so it need not exist::

    q_i = P(F_i) = Phi(-b / |p_i|),    Q = sum_i q_i,    D_i = F_i without F_1, ..., F_(i-1)

    M ~ Bin(m, Q) draws;  each picks i with probability q_i / Q, draws w ~ N(0, I_d) given F_i,
                          and is kept when i is the first index that w fires on, w in D_i

*The kept neurons are distributed exactly as the neurons that fire in a full draw of width m*, in number and in law.
Proof. In a full draw each neuron lies in ``F`` with probability ``p = P(F)``, independently: ``Bin(m, p)`` of them
fire, and these are independent with the law ``N(0, I_d)`` given ``F``; signs are uniform and independent of all else.
One of our draws is kept and lies in ``A`` with probability ``sum_i (q_i / Q) P(A, D_i) / P(F_i) = P(A, F) / Q``,
because the ``D_i`` are disjoint with union ``F``. So it is kept with probability ``p / Q`` and has the law
``N(0, I_d)`` given ``F`` then. Draws are independent, and thinning a binomial gives a binomial: ``Bin(m, p)`` are kept.
Signs are drawn apart from all this. Each draw picks its own ``i``, so the order of the rows says nothing either. []

``w`` given ``F_i`` is standard normal across ``p_i`` and, along it, standard normal beyond ``t_i = b / |p_i|``:
``-Phi^-1(v q_i)`` with ``v`` uniform in (0, 1], which keeps its relative accuracy far out in the tail.

When ``Q > 1`` the first step has no meaning, and all ``m`` neurons are drawn, block after block, and those that fire
kept. On points that are far apart most neurons fire then, so little is lost. (Covering ``F`` by half-spaces less their
intersection with an earlier one, after Hunter, 1976, and Worsley, 1982, lowers ``Q`` on points that are close together.
It is left out: with ``Q <= 1`` it saves no draw, since those intersections are met by rejection; and ``Q > 1`` means
that more than ``m`` pairs fire, so where ``m`` neurons are too many to draw, the pairs are too many to work with.)

*More points later* (`LazyNetwork.extend`) are exact as well. A neuron that does not exist has the law ``N(0, I_d)``
given that it fires on no old point. That law is sampled by rejection: propose from ``N(0, I_d)``, and again while the
proposal fires on an old point. All missing neurons propose at once by the method above, over old points first and new
ones after; proposals kept at a new point are the neurons to add, those kept at an old point must propose again, and
those that are not drawn at all fire nowhere and stay missing. Each round leaves a share ``P(fires on an old point)``.

Rounding. Scores are computed, so a neuron within rounding of a threshold may be judged either way, as in a full draw.
One drawn on the threshold of ``p_i`` may later compute to a score below it: it then exists and fires nowhere.

Cost: ``M (N + 2) d`` multiply-adds and ``M d`` random numbers, ``M ~ m N Phi(-b)`` on unit points; ``m N d`` when
``Q > 1``. Memory: the rows that exist, twice while they are joined, and one block of draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, ndtr, ndtri

from fast.two_layer import BLOCK_ENTRIES, score_blocks, warn_of_missing
from reference.notation import (
    BoolArray,
    FloatArray,
    InputError,
    IntArray,
    NothingFiresError,
    as_float_array,
    check_data,
    check_generator,
    check_points,
)
from reference.two_layer import TwoLayerNetwork

LARGEST_WIDTH = 1 << 50
"""Counts up to here are exact in float64, with room to spare."""
LARGEST_MEMORY = 8 << 30
"""Bytes that the weights may take."""
LARGEST_FULL_DRAW = 1 << 30
"""Neurons that may be drawn one by one when ``Q > 1``; about ten minutes at d = 32."""
DEEPEST_TAIL = 40.0
"""Beyond this many standard deviations the normal density is 0 in float64."""
FEWEST_DRAWS = 256
"""Draws per block at least: enough to foresee how many neurons will exist."""


@dataclass(frozen=True, eq=False)
class LazyNetwork:
    """A two-layer network of width ``m`` of which only ``u`` neurons exist: all that fire on ``points``, at least.

    Parameters
    ----------
    weights : array_like (u, d)
        Rows of the neurons that exist; ``u = 0`` is allowed. Never written to.
    signs : array_like (u,)
        Their signs, -1 or +1.
    shift : float
        ``b``.
    width : int
        ``m``, from ``u`` to 2^50.
    points : array_like (N, d)
        The missing neurons have the law ``N(0, I_d)`` given that they fire on none of these.

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, signs other than -1 and +1, a width out of range.

    Examples
    --------
    Four neurons, of which one exists: predictions are divided by ``sqrt(4)``.

    >>> network = LazyNetwork([[3.0, 0.0]], [1], 1.0, 4, np.eye(2))
    >>> network.predict(np.eye(2))
    array([1., 0.])
    """

    weights: FloatArray
    signs: FloatArray
    shift: float
    width: int
    points: FloatArray

    def __post_init__(self) -> None:
        points = as_float_array("points", self.points, 2).view()
        points.flags.writeable = False
        weights, signs = np.empty((0, points.shape[1])), np.empty(0)
        shift = float(as_float_array("shift", self.shift, 0))
        if np.size(self.weights) or np.size(self.signs):
            checked = TwoLayerNetwork(self.weights, self.signs, shift)
            weights, signs = checked.weights, checked.signs
        if weights.shape[1] != points.shape[1]:
            raise InputError(f"weights has {weights.shape[1]} columns and points {points.shape[1]}; make them equal")
        if check_width(self.width) < len(weights):
            raise InputError(f"width is {self.width} but {len(weights)} neurons exist; pass at least as many")
        for name, value in (("weights", weights), ("signs", signs), ("shift", shift), ("points", points)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "width", int(self.width))

    @property
    def dim(self) -> int:
        """Input dimension ``d``."""
        return int(self.weights.shape[1])

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points: ``f_i = m^(-1/2) sum_r a_r max(<w_r, x_i> - b, 0)`` over the neurons that exist.

        On rows of ``points`` that is exact: the other neurons add 0.

        Parameters
        ----------
        X : array_like (n, d)
            Points; they need not be of unit length.

        Returns
        -------
        ndarray (n,)

        Raises
        ------
        InputError
            NaN or infinite entries, wrong number of columns.

        Warns
        -----
        PartialPredictionWarning
            Some rows are not among ``points``; `extend` draws the neurons that are missing there.
        """
        rows = check_points(X, self.dim)
        warn_of_missing(self, rows)
        total, start = np.zeros(len(rows)), 0
        for scores in score_blocks(self.weights, rows):
            stop = start + scores.shape[1]
            total += np.maximum(scores - self.shift, 0) @ self.signs[start:stop]
            start = stop
        predictions: FloatArray = total / np.sqrt(self.width)
        return predictions

    def to_dense(self) -> TwoLayerNetwork:
        """Write the same function as a dense network of ``u`` neurons: weights ``s W``, shift ``s b``.

        With ``s = sqrt(u / m)`` the factor ``m^(-1/2)`` becomes ``u^(-1/2)``, and ``max(s z - s b, 0)
        = s max(z - b, 0)`` makes up for it. Gauss-Newton does not notice: gradients in ``s W`` are those in ``W`` over
        ``s``, so ``G`` is divided by ``s^2``, ``g`` multiplied by it, and the step in ``s W`` is ``s`` times the old.

        Returns
        -------
        TwoLayerNetwork

        Raises
        ------
        NothingFiresError
            No neuron exists.
        """
        if not len(self.weights):
            raise NothingFiresError(
                f"none of the {self.width} neurons exists, so there is no dense network; "
                "widen the network or lower the shift (a smaller alpha)"
            )
        scale = math.sqrt(len(self.weights) / self.width)
        return TwoLayerNetwork(scale * self.weights, self.signs, scale * self.shift)

    def given(self, X: FloatArray) -> BoolArray:
        """Tell which rows of ``X`` (n, d) are among ``points``, to the last bit: (n,)."""
        known = {row.tobytes() for row in self.points + 0.0}  # + 0.0 turns -0.0 into 0.0
        return np.array([row.tobytes() in known for row in X + 0.0], dtype=np.bool_)

    def missing_deviation(self, X: FloatArray) -> FloatArray:
        """Bound the standard deviation of what the missing neurons would add to each prediction.

        Given their weights, the sum has mean 0, because their signs are independent and uniform. Over a fresh draw of
        all ``m`` neurons its variance is ``E max(<w, x> - b, 0)^2`` restricted to missing ones, and at most without.

        Parameters
        ----------
        X : ndarray (n, d)
            Points of any length.

        Returns
        -------
        ndarray (n,)
        """
        lengths, thresholds = lengths_and_thresholds(X, self.shift)
        # Below -40 the ReLU cuts nothing off, and E (<w, x> - b)^2 = |x|^2 + b^2 overflows for no length.
        cut = lengths * np.sqrt(threshold_second_moment(np.maximum(thresholds, -DEEPEST_TAIL)))
        deviation: FloatArray = np.where(thresholds < -DEEPEST_TAIL, np.hypot(lengths, self.shift), cut)
        return deviation

    def extend(self, points: ArrayLike, *, rng: np.random.Generator) -> LazyNetwork:
        """Draw the neurons that fire on more points, as if these had been given at the start.

        A trained network takes its later points so: ``starting_network(trace.network).extend(points, rng=rng)``.
        The neurons that exist keep their rows and their order; added ones follow. The cost is that of drawing the
        network anew for all points.

        Parameters
        ----------
        points : array_like (k, d)
            Further points, of any length.
        rng : numpy.random.Generator
            Source of randomness, independent of the one that drew this network.

        Returns
        -------
        LazyNetwork
            With ``points`` appended to its own.

        Raises
        ------
        InputError
            Bad points, or too many neurons; see `initialize`.
        """
        check_generator(rng)
        further = check_points(points, self.dim)
        together = np.concatenate([self.points, further[~self.given(further)]])
        added: list[FloatArray] = []
        proposing = self.width - len(self.weights)
        while proposing and len(together) > len(self.points):
            weights, first = draw_fired(together, self.shift, proposing, rng)
            new = first >= len(self.points)
            added.append(weights[new])
            proposing = len(new) - int(np.count_nonzero(new))
        weights = np.concatenate([self.weights, *added])
        signs = np.concatenate([self.signs, draw_signs(len(weights) - len(self.weights), rng)])
        return LazyNetwork(weights, signs, self.shift, self.width, together)


def initialize(
    X: ArrayLike, *, width: int, shift: float, rng: np.random.Generator, unseen: ArrayLike | None = None
) -> LazyNetwork:
    """Draw a Gaussian network for training on ``X`` and predicting on ``unseen``: only the neurons that fire there.

    Parameters
    ----------
    X : array_like (n, d)
        Unit rows, no two equal or opposite.
    width : int
        ``m``, from 1 to 2^50.
    shift : float
        ``b``; see `reference.two_layer.shift_for`.
    rng : numpy.random.Generator
        Source of randomness.
    unseen : array_like (q, d), optional
        More points, of any length, on which predictions are to be exact in distribution.

    Returns
    -------
    LazyNetwork
        Distributed exactly as the neurons of `reference.lazy_width.initialize` that fire on a point given here.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`. Or more neurons would exist than fit into 8 GiB, or
        ``Q > 1`` and more than 2^30 would have to be drawn.

    Examples
    --------
    A trillion neurons, of which about 64 thousand fire on one of two points.

    >>> from reference.two_layer import shift_for
    >>> shift = shift_for(2**40, 0.55)
    >>> network = initialize(np.eye(2), width=2**40, shift=shift, rng=np.random.default_rng(0))
    >>> network.width, network.weights.shape == (len(network.signs), 2)
    (1099511627776, True)
    >>> bool(abs(len(network.signs) / (2 * 2**40 * ndtr(-shift)) - 1) < 0.02)
    True
    """
    check_generator(rng)
    points = check_data(X)
    if unseen is not None:
        others = as_float_array("unseen", unseen, 2)
        if others.shape[1] != points.shape[1]:
            raise InputError(f"unseen has shape {others.shape} but X has {points.shape[1]} columns; make them equal")
        points = np.concatenate([points, others])
    shift = float(as_float_array("shift", shift, 0))
    weights, _ = draw_fired(points, shift, check_width(width), rng)
    # The network keeps the points, so the caller's array must not be shared.
    return LazyNetwork(weights, draw_signs(len(weights), rng), shift, width, points.copy())


def check_width(width: int) -> int:
    """Check a width: a whole number from 1 to 2^50.

    Parameters
    ----------
    width : int
        ``m``.

    Returns
    -------
    int

    Raises
    ------
    InputError
        Anything else.
    """
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or not 1 <= width <= LARGEST_WIDTH:
        raise InputError(f"width is {width!r}; pass a whole number from 1 to 2**50")
    return int(width)


def lengths_and_thresholds(points: FloatArray, shift: float) -> tuple[FloatArray, FloatArray]:
    """Compute the lengths ``|p_i|`` and the thresholds ``t_i = b / |p_i|`` along unit directions.

    Parameters
    ----------
    points : ndarray (N, d)
        Points of any length. On a zero row every neuron fires when ``b <= 0`` and none otherwise, so its threshold
        is minus or plus infinity.
    shift : float
        ``b``.

    Returns
    -------
    lengths, thresholds : ndarray (N,)

    Raises
    ------
    InputError
        A point so long that its length overflows.

    Examples
    --------
    >>> lengths_and_thresholds(np.array([[3.0, 4.0], [0.0, 0.0]]), 1.0)
    (array([5., 0.]), array([0.2, inf]))
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        lengths = np.linalg.norm(points, axis=1)
        thresholds = shift / lengths
    if not np.isfinite(lengths).all():
        raise InputError(f"the length of point {int(np.argmax(~np.isfinite(lengths)))} overflows; rescale the points")
    thresholds[lengths == 0] = math.inf if shift > 0 else -math.inf
    return lengths, thresholds


def threshold_second_moment(threshold: FloatArray) -> FloatArray:
    """Compute ``c(t) = E max(z - t, 0)^2 = (1 + t^2) Phi(-t) - t phi(t)`` for ``z`` standard normal.

    Far in the tail the two terms cancel to ``2 phi(t) / t^3``. With ``phi`` factored out, Mills' ratio
    ``Phi(-t) / phi(t)`` is left, and what cancels costs a factor ``t^4``: a relative error of 1e-10 at ``t = 37``,
    beyond which ``c`` underflows.

    Parameters
    ----------
    threshold : ndarray
        ``t``; may be infinite on the positive side.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> threshold_second_moment(np.array([0.0, 40.0, -1e3])).round(9)
    array([5.000000e-01, 0.000000e+00, 1.000001e+06])
    """
    tail = np.minimum(np.abs(threshold), DEEPEST_TAIL)
    with np.errstate(under="ignore"):
        density = np.exp(-(tail**2) / 2) / math.sqrt(2 * math.pi)
        mills = math.sqrt(math.pi / 2) * erfcx(tail / math.sqrt(2))
        beyond = density * np.maximum((1 + tail**2) * mills - tail, 0)
    # c(t) + c(-t) = 1 + t^2
    moment: FloatArray = np.where(threshold < 0, 1 + np.minimum(threshold, 0) ** 2 - beyond, beyond)
    return moment


def draw_signs(count: int, rng: np.random.Generator) -> FloatArray:
    """Draw ``count`` signs, -1 or +1 with equal chance."""
    return np.asarray(2.0 * rng.integers(0, 2, size=count) - 1.0)


def draw_fired(
    points: FloatArray, shift: float, count: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Draw those of ``count`` standard normal neurons that fire on some point.

    Parameters
    ----------
    points : ndarray (N, d)
        Points of any length.
    shift : float
        ``b``.
    count : int
        How many neurons there are, whether they fire or not.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    weights : ndarray (u, d)
        Neurons that fire, in random order.
    first : ndarray (u,) of int
        The first point that each fires on.

    Raises
    ------
    InputError
        More neurons than fit into memory, or than can be drawn.
    """
    chances = ndtr(-lengths_and_thresholds(points, shift)[1])
    total = float(chances.sum())
    if total <= 1:
        # Thinning twice by the square root thins by the product: the same law. NumPy's own routine has rounded
        # 1 - probability in some versions, which a square root is large enough to survive.
        draws = int(rng.binomial(rng.binomial(count, math.sqrt(total)), math.sqrt(total)))
        blocks = draw_given_a_point(points, shift, draws, rng)
    else:
        if count > LARGEST_FULL_DRAW:
            raise InputError(
                f"a neuron fires on {total:.3g} of the {len(points)} points on average, more than 1, so all {count} "
                f"neurons would have to be drawn, and {LARGEST_FULL_DRAW} is the limit; "
                "raise the shift (a larger alpha), pass fewer points, or lower the width"
            )
        draws = count
        blocks = _draw_all(points, shift, draws, rng)
    return _collect(blocks, draws, points.shape[1])


Drawn = tuple[FloatArray, IntArray, BoolArray]
"""A block of draws: weights (rows, d), the first point each fires on (rows,), and which are kept (rows,)."""


def draw_given_a_point(points: FloatArray, shift: float, draws: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Draw neurons given that they fire on a random point, and keep those for which it is the first one.

    Parameters
    ----------
    points : ndarray (N, d)
        Points of any length, with ``Q > 0``.
    shift : float
        ``b``.
    draws : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.

    Yields
    ------
    Drawn
    """
    lengths, thresholds = lengths_and_thresholds(points, shift)
    chances = ndtr(-thresholds)
    directions = points / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis]
    for rows in _block_sizes(draws, points):
        index = rng.choice(len(points), size=rows, p=chances / chances.sum())
        tail = chances[index] * (1 - rng.random(rows))  # 1 - [0, 1) leaves out 0, whose quantile is infinite
        along = np.maximum(-ndtri(tail), thresholds[index])
        weights = rng.standard_normal((rows, points.shape[1]))
        direction = directions[index]
        weights += (along - np.einsum("rd,rd->r", weights, direction))[:, np.newaxis] * direction
        fires = weights @ points.T >= shift
        fires[np.arange(rows), index] = True  # its computed score may fall short of the shift by rounding
        first: IntArray = fires.argmax(axis=1)
        keep: BoolArray = np.equal(first, index)
        yield weights, first, keep


def _draw_all(points: FloatArray, shift: float, draws: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Draw all neurons; keep those that fire."""
    for rows in _block_sizes(draws, points):
        weights = rng.standard_normal((rows, points.shape[1]))
        fires = weights @ points.T >= shift
        first: IntArray = fires.argmax(axis=1)
        keep: BoolArray = np.any(fires, axis=1)
        yield weights, first, keep


def _block_sizes(draws: int, points: FloatArray) -> Iterator[int]:
    """Cut the draws into blocks whose weights and scores stay in cache."""
    rows = max(FEWEST_DRAWS, BLOCK_ENTRIES // max(points.shape))
    return (min(rows, draws - start) for start in range(0, draws, rows))


def _collect(blocks: Iterator[Drawn], draws: int, dim: int) -> tuple[FloatArray, IntArray]:
    """Join what is kept; refuse as soon as the share kept so far foretells more than fits."""
    weights: list[FloatArray] = [np.empty((0, dim))]
    first: list[IntArray] = [np.empty(0, dtype=np.intp)]
    drawn = kept = 0
    for block, index, keep in blocks:
        weights.append(block[keep])
        first.append(index[keep])
        drawn, kept = drawn + len(block), kept + len(weights[-1])
        expected = kept * draws / drawn
        if expected * dim * 8 > LARGEST_MEMORY:
            raise InputError(
                f"about {expected:.3g} neurons would exist, with weights of {expected * dim * 8 / 2**30:.3g} GiB, and "
                f"{LARGEST_MEMORY / 2**30:.3g} GiB is the limit; "
                "raise the shift (a larger alpha), pass fewer points, or lower the width"
            )
    return np.concatenate(weights), np.concatenate(first)
