"""The pairs (neuron, data point) that fire or may soon, and proof that no other pair does.

Training moves only neurons that fire, and by multiples of the data, so scores follow from coefficients (ours)::

    w_r  = w_r(0) + s_r sum_i c_ri x_i,           s_r = m^(-1/2) a_r,    P = X X^T
    e_rj = <w_r, x_j> - b = e_rj(0) + s_r sum_i c_ri P_ij        the *excess*; the pair fires when it is at least 0

A step ``g`` subtracts ``g_i`` from ``c_ri`` for every pair that fires. Watched are, of every neuron that fires
somewhere at the start, the pairs with an excess of at least ``-band``. Two clocks run: ``Gamma_i``, the sum of all
``g_i`` so far, and the *drift* ``T``, the sum over all steps of ``m^(-1/2) max_i |g_i|``. Below, ``mu_i`` is the
coherence of point ``i``, the largest ``|P_ij|`` over ``j != i``, and ``pull_r`` the sum of ``mu_i`` over the points
that neuron ``r`` fires on.

Invariants, and why they hold
1. *Only neurons that fire somewhere at the start ever move.* A neuron that fires nowhere has a zero gradient, so a
   step leaves its weights, and with them its pattern, as they are; by induction for ever.
2. ``c_ri = base_ri - [fires] Gamma_i``. While a pair fires, each step lowers both sides by ``g_i``; while it does not,
   neither side moves. When it flips, ``base_ri`` changes by ``+-Gamma_i`` so that ``c_ri`` stays.
3. *A watched pair cannot flip before the drift reaches its* ``due``. One step changes ``e_rj`` by at most
   ``m^(-1/2) max|g|`` times ``rate``: ``pull_r``, plus ``P_jj - mu_j`` if it fires and that is positive. So ``due`` is
   ``T + |e_rj| / rate``. As ``pull_r`` grows, the wait shrinks in proportion: ``(a + c) / (b + c) <= a / b`` for
   ``a >= b > 0`` and ``c >= 0``.
4. *No unwatched pair fires.* As ``r`` has never fired on ``j``, ``i != j`` in every term of ``e_rj - e_rj(0)``: it is
   at most ``m^(-1/2) sum_i |c_ri| mu_i``, and changes by at most ``pull_r`` times the change of ``T``. The second bound
   says when a row must be checked, the first, against ``band``, clears most of those. The others are computed exactly
   from their weights; their near pairs join the watched ones, the rest is farther away than a known *reserve*.
5. *Predictions.* A step changes ``f`` by ``-G g`` exactly where nothing flips, ``f`` being linear there. A pair that
   starts to fire adds ``s_r e_rj``, and one that stops gives back the ``s_r e_rj < 0`` that ``-G g`` charged for it:
   ``s_r |e_rj|`` both times.
6. *Counts.* With ``A`` (n, neurons) the pattern before and ``A + D`` after, ``(A + D)(A + D)^T - A A^T`` is
   ``D (A + D)^T + A D^T``, and ``D`` is zero except at flips.

Rounding. ``due`` and the reserves compare numbers that are right to about 1e-15 of their size; a pair that close to
its kink may be put on either side, and moves ``f`` by as little. Steps along nearly dependent data are huge and cancel:
sums of them lose digits that weights keep. When they may have lost too many, `WholeArraysError` asks for weights.

Cost. Start: one pass over ``W`` in blocks, ``m n d``. A step: for each pair that is due, the points its neuron has
fired on; the same for each row that is checked and for each flip; ``n (n + d)`` for each row that is computed. Nothing
of size ``m`` or ``n m`` is formed. On coherent data the bounds of 4 are loose and many rows are computed: slower,
never wrong. Neurons that fire on many points are handled in whole rows of ``n`` by BLAS.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fast.gram import DENSE_AT, SPARSE_BELOW
from fast.two_layer import BLOCK_ENTRIES, FiredPairs, ImplicitNetwork, StartingNetwork
from reference.notation import FloatArray, IntArray
from reference.regression import rounding_floor

RealArray = NDArray[np.floating[Any]]

REACH = 0.5
"""A row computed afresh gets a reserve that lasts for this many steps like the one that is being tried."""
PHASES = ("compare", "certify", "compute", "look", "drift", "flips", "gram", "predict")
"""What is counted; see `fast.gauss_newton.train`."""
MOST_LOST = 1e-10
"""Share of the predictions' scale that rounding in sums of steps may reach."""
TINY = float(np.finfo(np.float64).tiny)
SLACK = 1 + 1e-9
"""Covers the rounding of the bounds."""
FEWEST_SET_ASIDE = 1024
"""Shorter lists than this are compared as a whole."""
ENTRY_ARRAYS = ("row", "point", "initial_excess", "base", "due", "fired")
ROW_ARRAYS = ("start", "count", "touched", "pull", "row_due", "from_start")
EDGES = 1 << 18
"""Pairs of a pair and a coefficient of its neuron that are gathered at a time."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What a step ``g`` would do; nothing has moved yet.

    Parameters
    ----------
    g : ndarray (n,)
        The step's coefficients.
    drift : float
        ``T`` after it.
    looked, excess : ndarray (k,)
        Pairs that were due, and their excess after it.
    flips : ndarray (f,) of int
        Positions in ``looked`` of the pairs that change between firing and not firing.
    predictions : ndarray (n,)
        ``f`` after it.
    rounding : float
        Bound on the rounding error of ``predictions`` that sums of steps have gathered.
    fired_per_point : ndarray (n,)
        Neurons that fire on each data point after it.
    checked, reserve : ndarray (l,)
        Rows that were checked, and how far below the shift their unwatched pairs are after the step at least.
    computed : ndarray (q,)
        Those of them that were computed from their weights.
    """

    g: FloatArray
    drift: float
    looked: IntArray
    excess: FloatArray
    flips: IntArray
    predictions: FloatArray
    rounding: float
    fired_per_point: FloatArray
    checked: IntArray
    reserve: FloatArray
    computed: IntArray


def distinct(indices: IntArray) -> IntArray:
    """Sort some indices and drop repetitions; much faster than `numpy.unique` on millions of them."""
    ordered = np.sort(indices)
    return ordered[np.diff(ordered, prepend=-1) > 0]


class WholeArraysError(Exception):
    """Whole arrays are better from here on: too many pairs to watch, or too many digits lost; see `fast.all_pairs`."""


class DueQueue:
    """Finds the entries whose ``due`` has come without comparing all of them every time.

    Entries due soon are set aside in ever shorter lists: a list with horizon ``h`` holds every entry whose ``due`` is
    at most ``h``, and is dropped once the time passes ``h``. Values of ``due`` may rise at will; one that falls must be
    announced by `lower`.

    Parameters
    ----------
    fewest : int
        No shorter lists are made of lists of at most this length.
    """

    def __init__(self, fewest: int = FEWEST_SET_ASIDE) -> None:
        self._fewest = fewest
        self._lists: list[tuple[float, IntArray]] = []
        self._lowered = False
        self.compared = 0
        """Entries compared so far."""

    def reached(self, due: FloatArray, now: float, step: float) -> IntArray:
        """Return the entries with ``due <= now``; set aside those due within a quarter of ``step`` after it."""
        while self._lists and self._lists[-1][0] < now:
            self._lists.pop()
        horizon, entries = self._lists[-1] if self._lists else (np.inf, None)
        # A shorter list cannot know what the longer one leaves out.
        horizon = min(horizon, now + step / 4)
        values = due if entries is None else due[entries]
        self.compared += len(values)
        soon = np.flatnonzero(values <= horizon)
        found = soon if entries is None else entries[soon]
        if 2 * len(soon) < len(values) and len(values) > self._fewest:
            self._lists.append((horizon, found))
        found = found[values[soon] <= now]
        return distinct(found) if self._lowered else found

    def lower(self, entries: IntArray, due: FloatArray) -> None:
        """Announce that the ``due`` of some entries fell, or that they are new."""
        for place, (horizon, members) in enumerate(self._lists):
            self._lists[place] = (horizon, np.concatenate([members, entries[due[entries] <= horizon]]))
            self._lowered = True

    def copy(self) -> DueQueue:
        """Copy the lists; their entries are never changed in place."""
        twin = copy.copy(self)
        twin._lists = self._lists.copy()
        return twin

    def clear(self) -> None:
        """Forget all lists: the entries have other numbers now."""
        self._lists.clear()


class WatchedPairs:
    """Pairs of the neurons that fire somewhere at the start; see the module docstring.

    Parameters
    ----------
    network : StartingNetwork
        The initial network. Its weights are read once here, and later only rows of neurons that fire.
    X : ndarray (n, d)
        Unit rows.
    inner_products : ndarray (n, n)
        ``P``.
    band : float
        How far below the shift a pair is watched from the start; any value of at least 0 is correct.
    scale : float
        Size of the labels, ``||y||``; with that of ``f`` at the start it is what rounding is measured by.
    moved : (ndarray (k,) of int, ndarray (k, d)), optional
        Neurons that have moved and their weights: start from these, where no other neuron fires.

    Attributes
    ----------
    neurons, place : ndarray (R,) of int
        One row each: the neurons that fire somewhere at the start, increasing; and where their weights are.
    predictions : ndarray (n,)
        ``f`` now.
    shared : ndarray (n, n)
        ``C``: how many neurons fire on both of two points, now. Whole numbers.
    active_pairs : int
        Pairs that fire now.
    work : dict
        Work so far, phase by phase; see `fast.gauss_newton.train`.
    """

    most: ClassVar[float] = 1 / 8
    """Share of its ``n`` pairs that may be watched of a neuron, on average; or `fewest` pairs, if that is more."""
    fewest: ClassVar[float] = 6

    def __init__(
        self,
        network: StartingNetwork,
        X: FloatArray,
        inner_products: FloatArray,
        band: float,
        *,
        scale: float = 1.0,
        moved: tuple[IntArray, FloatArray] | None = None,
    ) -> None:
        self.network, self.X, self.inner_products, self.moved = network, X, inner_products, moved
        self.weights = network.weights if moved is None else moved[1]
        n = len(X)
        self.per_unit = 1 / np.sqrt(network.width)
        off_diagonal = np.abs(inner_products - np.diag(np.diag(inner_products)))
        self.coherences: FloatArray = off_diagonal.max(axis=1)
        self.band = band
        neuron, point, excess = _near_pairs(self.weights, X, network.shift, band)
        first = np.flatnonzero(np.diff(neuron, prepend=-1))
        self.place: IntArray = neuron[first]
        self.neurons: IntArray = self.place if moved is None else moved[0][self.place]
        self.signs: FloatArray = network.signs[self.neurons] * self.per_unit
        self.start: IntArray = first
        self.count: IntArray = np.diff(first, append=len(neuron))
        self.used = len(neuron)
        room = self.used + self.used // 8 + 1024
        self.row, self.point = np.zeros((2, room), dtype=np.intp)
        self.initial_excess, self.base, self.due = np.zeros((3, room))
        self.fired = np.zeros(room, dtype=np.bool_)
        self.row[: self.used] = np.repeat(np.arange(len(first)), self.count)
        self.point[: self.used], self.initial_excess[: self.used] = point, excess
        fired = np.greater_equal(excess, 0, out=self.fired[: self.used])
        # Within a row the pairs that have ever fired come first, as far as `touched`.
        self.touched: IntArray = np.add.reduceat(fired, first, dtype=np.intp)
        self.pull = np.add.reduceat(np.where(fired, self.coherences[point], 0), first)
        self.active_pairs = int(self.touched.sum())
        self.total = np.zeros(n)
        self.drift = 0.0
        self.from_start = np.ones(len(first), dtype=np.bool_)
        self.due[: self.used] = self._later(np.abs(excess), self._rate(np.arange(self.used)))
        self.row_due = self._later(np.full(len(first), band), self.pull)
        self.pair_queue, self.row_queue = DueQueue(), DueQueue()
        self.dead = 0
        self.work = dict.fromkeys(PHASES, 0)
        pairs = np.flatnonzero(fired)
        self.shared = self._sum_shared(pairs, np.ones(len(pairs), dtype=np.intp))
        self._gram: FloatArray | None = None
        self.predictions, self.rounding = self._sum_by_point(pairs, self.signs[self.row[pairs]] * excess[pairs]), 0.0
        self.work["predict"] += len(pairs)
        self.scale = scale + float(np.linalg.norm(self.predictions))

    def gram(self) -> FloatArray:
        """Compute ``G = P o C / m``."""
        if self._gram is None:
            self._gram = self.inner_products * self.shared / self.network.width
            self.work["gram"] += self.shared.size
        return self._gram

    def _sum_by_point(self, pairs: IntArray, values: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(self.point[pairs], weights=values, minlength=len(self.X)).astype(np.float64)
        return sums

    def try_step(self, g: FloatArray) -> Trial:
        """Find the pairs that would flip when ``W`` moves by ``-J^T g``.

        Parameters
        ----------
        g : ndarray (n,)
            Step.

        Returns
        -------
        Trial
            Valid until the next `try_step` or `take`.

        Raises
        ------
        WholeArraysError
            More pairs than `limit` allows would have to be watched, or sums of steps may have lost more than
            `MOST_LOST`. Nothing has changed.
        """
        G = self.gram()
        rounding = self.rounding + rounding_floor(float(np.trace(G)), g)
        if rounding > MOST_LOST * self.scale:
            raise WholeArraysError
        drift = self.drift + self.per_unit * float(np.abs(g).max())
        total = self.total + g
        compared = self.pair_queue.compared + self.row_queue.compared
        checked, reserve, computed = self._certify(drift, total)
        looked = self.pair_queue.reached(self.due[: self.used], drift, drift - self.drift)
        self.work["compare"] += self.pair_queue.compared + self.row_queue.compared - compared
        self.work["look"] += len(looked)
        excess = self._excess(looked, total)
        flips = np.flatnonzero((excess >= 0) != self.fired[looked])
        flipped = looked[flips]
        values = self.signs[self.row[flipped]] * np.abs(excess[flips])
        predictions = self.predictions - G @ g + self._sum_by_point(flipped, values)
        self.work["predict"] += G.size
        fired_per_point = np.diag(self.shared) + self._sum_by_point(flipped, np.where(self.fired[flipped], -1.0, 1.0))
        return Trial(
            g, drift, looked, excess, flips, predictions, rounding, fired_per_point, checked, reserve, computed
        )

    def take(self, trial: Trial) -> None:
        """Take the step that was tried last.

        Parameters
        ----------
        trial : Trial
            From `try_step`.
        """
        self._advance(trial.g)
        self.drift = trial.drift
        self.predictions, self.rounding = trial.predictions, trial.rounding
        flipped = trial.looked[trial.flips]
        gained = self._flip(flipped)
        self.due[trial.looked] = self._later(np.abs(trial.excess), self._rate(trial.looked))
        self.row_due[trial.checked] = self._later(trial.reserve, self.pull[trial.checked])
        self.from_start[trial.computed] = False
        if len(gained):
            self.pair_queue.lower(gained, self.due)
        self.work["flips"] += len(flipped)

    def crowded(self) -> bool:
        """Tell whether so many pairs are watched that whole arrays are better."""
        return self.used - self.dead > self.limit(len(self.neurons), len(self.X))

    @classmethod
    def limit(cls, rows: int, n: int) -> float:
        """Return how many pairs of some neurons may be watched."""
        return rows * max(cls.most * n, cls.fewest)

    def copy(self) -> WatchedPairs:
        """Copy everything that steps change; the record of work stays shared."""
        twin = copy.copy(self)
        for name in (*ENTRY_ARRAYS, *ROW_ARRAYS, "shared"):
            setattr(twin, name, getattr(self, name).copy())
        twin.pair_queue, twin.row_queue = self.pair_queue.copy(), self.row_queue.copy()
        return twin

    def fired_pairs(self) -> FiredPairs:
        """List the pairs that fire now, sorted by data point and then by neuron."""
        pairs = np.flatnonzero(self.fired)
        point, row = self.point[pairs], self.row[pairs]
        order = np.lexsort((row, point))
        return FiredPairs(point[order], self.neurons[row[order]], len(self.X), self.network.width)

    def trained_network(self) -> ImplicitNetwork:
        """Return the network with its weights as they are now."""
        _, entries = self._entries(np.arange(len(self.neurons)), self.touched)
        starts = np.concatenate([[0], np.cumsum(self.touched)])
        shape = (len(self.neurons), len(self.X))
        coefficients = sparse.csr_array((self._coefficients(entries, self.total), self.point[entries], starts), shape)
        if self.moved is None:
            return ImplicitNetwork(self.network, self.X, self.neurons, coefficients)
        neurons, weights = self.moved[0], self.moved[1].copy()
        weights[self.place] += self.signs[:, np.newaxis] * (coefficients @ self.X)
        return ImplicitNetwork(self.network, self.X, neurons, weights=weights)

    # Coefficients and excesses

    def _advance(self, g: FloatArray) -> None:
        """Let a step change the coefficients of the pairs that fire: the clock moves, and no pair is touched."""
        self.total = self.total + g

    def _coefficients(self, pairs: IntArray, total: FloatArray) -> FloatArray:
        """Compute ``c`` of some pairs (invariant 2)."""
        coefficients: FloatArray = self.base.take(pairs) - self.fired.take(pairs) * total.take(self.point.take(pairs))
        return coefficients

    def _excess(self, pairs: IntArray, total: FloatArray) -> FloatArray:
        """Compute the excess of some pairs when the clock ``Gamma`` shows ``total``."""
        if not len(pairs):
            return np.empty(0)
        rows = self._dense_pays(self.row[pairs])
        if rows is None:
            self.work["drift"] += int(self.touched[self.row[pairs]].sum())
            return self.initial_excess[pairs] + self._sparse_change(pairs, total)
        self.work["drift"] += len(rows) * self.inner_products.size
        return self.initial_excess[pairs] + self._dense_change(rows, pairs, total)

    def _sparse_change(self, pairs: IntArray, total: FloatArray) -> FloatArray:
        """Sum ``s_r c_ri P_ij`` over the coefficients of each pair's neuron, one by one."""
        n, products = len(self.X), self.inner_products.ravel()
        change = np.zeros(len(pairs))
        for which, entries in self._edges(pairs):
            points = self.point.take(pairs[which])
            terms = self._coefficients(entries, total) * products.take(self.point.take(entries) * n + points)
            change += terms if isinstance(which, slice) else np.bincount(which, weights=terms, minlength=len(pairs))
        change *= self.signs[self.row[pairs]]
        return change

    def _dense_change(self, rows: IntArray, pairs: IntArray, total: FloatArray) -> FloatArray:
        """Compute the same for neurons that fire on many points: whole rows at a time, by BLAS."""
        change = np.empty(len(pairs))
        order = np.argsort(self.row[pairs], kind="stable")
        ends = np.searchsorted(self.row[pairs], rows, side="right", sorter=order)
        begin = 0
        for block in _blocks(np.full(len(rows), len(self.X)), EDGES):
            moved = self._dense_coefficients(rows[block], total) @ self.inner_products
            last = ends[block.stop - 1]
            own = order[begin:last]
            place = np.searchsorted(rows[block], self.row[pairs[own]])
            change[own] = self.signs[self.row[pairs[own]]] * moved[place, self.point[pairs[own]]]
            begin = last
        return change

    def _dense_coefficients(self, rows: IntArray, total: FloatArray) -> FloatArray:
        """Write out ``c`` of some rows: (k, n)."""
        which, entries = self._entries(rows, self.touched[rows])
        dense = np.zeros((len(rows), len(self.X)))
        dense[which, self.point[entries]] = self._coefficients(entries, total)
        return dense

    def _entries(self, rows: IntArray, counts: IntArray, skip: int = 0) -> tuple[IntArray, IntArray]:
        """List the first ``counts`` entries of some rows after ``skip``: position in ``rows``, and entry."""
        which = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(counts) - counts
        return which, np.arange(len(which)) + (self.start[rows] + skip - before).take(which)

    def _edges(self, pairs: IntArray) -> Iterator[tuple[IntArray | slice, IntArray]]:
        """Match each pair with every entry of its row that has ever fired: position in ``pairs``, and entry."""
        rows = self.row[pairs]
        # Most neurons fire on a single point: that entry needs no list.
        yield slice(None), self.start[rows]
        several = np.flatnonzero(self.touched[rows] > 1)
        for block in _blocks(self.touched[rows[several]], EDGES):
            own = several[block]
            which, entries = self._entries(rows[own], self.touched[rows[own]] - 1, skip=1)
            yield own[which], entries

    def _dense_pays(self, rows: IntArray) -> IntArray | None:
        """Return the distinct ones of ``rows`` if whole rows by BLAS cost less than listing their entries."""
        edges = int(self.touched[rows].sum())
        if edges <= EDGES // 16:
            return None
        mentioned = np.zeros(len(self.neurons), dtype=np.bool_)
        mentioned[rows] = True
        distinct = np.flatnonzero(mentioned)
        return distinct if edges > max(SPARSE_BELOW, DENSE_AT * self.inner_products.size) * len(distinct) else None

    # Invariants 3 and 4

    def _rate(self, pairs: IntArray) -> FloatArray:
        """Bound the change of a pair's excess per unit of drift."""
        points = self.point[pairs]
        own = np.where(self.fired[pairs], np.diag(self.inner_products)[points] - self.coherences[points], 0.0)
        # A row a little too short beside one a little too long may have a coherence above its own square.
        own = np.maximum(own, 0.0)
        rate: FloatArray = self.pull[self.row[pairs]] + own
        return rate

    def _later(self, slack: RealArray, rate: RealArray) -> FloatArray:
        """Return the drift at which a slack may be used up; never, for a neuron that fires nowhere any more."""
        wait = np.full(len(slack), np.inf)
        with np.errstate(over="ignore"):
            np.divide(slack, SLACK * rate, out=wait, where=rate > 0)
        return self.drift + wait

    def _certify(self, drift: float, total: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Make sure that no unwatched pair fires after a step; return the last three fields of a `Trial`."""
        rows = self.row_queue.reached(self.row_due, drift, drift - self.drift)
        checked = rows[self.from_start[rows]]
        which, entries = self._entries(checked, self.touched[checked])
        self.work["certify"] += len(entries)
        terms = np.abs(self._coefficients(entries, total)) * self.coherences[self.point[entries]]
        moved = SLACK * self.per_unit * np.bincount(which, weights=terms, minlength=len(checked))
        clear = moved < self.band
        computed = np.concatenate([checked[~clear], rows[~self.from_start[rows]]])
        reserve = REACH * (drift - self.drift) * self.pull[computed]
        self._compute(computed, reserve, total)
        cleared = checked[clear]
        return np.concatenate([cleared, computed]), np.concatenate([self.band - moved[clear], reserve]), computed

    def _compute(self, rows: IntArray, reserve: FloatArray, total: FloatArray) -> None:
        """Compute all scores of some rows as they would be; watch the pairs less than ``reserve`` below the shift."""
        n, d = self.X.shape
        new_rows, new_points, new_excess, gained = [], [], [], 0
        for block in _blocks(np.full(len(rows), n), EDGES):
            own = rows[block]
            initial = self.weights[self.place[own]] @ self.X.T - self.network.shift
            moved = self._dense_coefficients(own, total) @ self.inner_products
            near = initial + self.signs[own, np.newaxis] * moved >= -reserve[block, np.newaxis]
            which, entries = self._entries(own, self.count[own])
            near[which, self.point[entries]] = False
            found, points = np.nonzero(near)
            new_rows.append(own[found])
            new_points.append(points)
            new_excess.append(initial[found, points])
            self.work["compute"] += len(own) * n * (d + n)
            gained += len(found)
            expected = self.used - self.dead + gained * len(rows) / block.stop
            if expected > self.limit(len(self.neurons), n):
                raise WholeArraysError
        if new_rows:
            self._watch(np.concatenate(new_rows), np.concatenate(new_points), np.concatenate(new_excess))

    def _watch(self, rows: IntArray, points: IntArray, excess: FloatArray) -> None:
        """Watch more pairs: the rows that gain some are written afresh behind all others."""
        if not len(rows):
            return
        gaining = distinct(rows)
        which, old = self._entries(gaining, self.count[gaining])
        merged = np.concatenate([gaining[which], rows])
        order = np.argsort(merged, kind="stable")
        begin, end = self.used, self.used + len(order)
        self._reserve(end)
        new, none = slice(begin, end), np.zeros(len(rows))
        self.row[new] = merged[order]
        self.point[new] = np.concatenate([self.point[old], points])[order]
        self.initial_excess[new] = np.concatenate([self.initial_excess[old], excess])[order]
        self.base[new] = np.concatenate([self.base[old], none])[order]
        self.due[new] = np.concatenate([self.due[old], none + self.drift])[order]
        self.fired[new] = np.concatenate([self.fired[old], none > 0])[order]
        self.fired[old], self.due[old] = False, np.inf
        self.used = end
        self.dead += len(old)
        self.count[gaining] += np.bincount(np.searchsorted(gaining, rows), minlength=len(gaining))
        self.start[gaining] = begin + np.cumsum(self.count[gaining]) - self.count[gaining]
        if 2 * self.dead > self.used:
            self._compact()
        else:
            self.pair_queue.lower(np.arange(begin, end), self.due)

    def _reserve(self, entries: int) -> None:
        """Make room for some entries in all."""
        extra = max(entries, 2 * len(self.row)) - len(self.row)
        if entries > len(self.row):
            for name in ENTRY_ARRAYS:
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros(extra, dtype=array.dtype)]))

    def _compact(self) -> None:
        """Drop the entries that rows have left behind."""
        _, alive = self._entries(np.arange(len(self.neurons)), self.count)
        for name in ENTRY_ARRAYS:
            array = getattr(self, name)
            array[: len(alive)] = array[alive]
            array[len(alive) : self.used] = 0
        self.used = len(alive)
        self.start = np.cumsum(self.count) - self.count
        self.dead = 0
        self.pair_queue.clear()

    # Flips

    def _flip(self, pairs: IntArray) -> IntArray:
        """Let pairs start or stop to fire; return the pairs of the rows that gained a firing pair."""
        if not len(pairs):
            return pairs
        rows, starts = self.row[pairs], ~self.fired[pairs]
        change = np.where(starts, 1, -1)
        gaining = distinct(rows[starts])
        pull_before = self.pull[gaining]
        np.add.at(self.pull, rows, change * self.coherences[self.point[pairs]])
        np.maximum.at(self.touched, rows[starts], pairs[starts] - self.start[rows[starts]] + 1)
        self.shared += self._sum_shared(pairs, change).T
        self.fired[pairs] = starts
        self.shared += self._sum_shared(pairs, change)
        self._gram = None
        self.base[pairs] += change * self.total[self.point[pairs]]
        self.active_pairs += int(change.sum())
        # More firing pairs move a row faster, so what it has left of its slack lasts for less drift.
        slower = np.where(pull_before > 0, np.minimum(pull_before / np.maximum(self.pull[gaining], TINY), 1), 0)
        which, entries = self._entries(gaining, self.count[gaining])
        self.due[entries] = self.drift + _shrink(self.due[entries] - self.drift, slower[which])
        self.row_due[gaining] = self.drift + _shrink(self.row_due[gaining] - self.drift, slower)
        self.row_queue.lower(gaining, self.row_due)
        return entries

    def _sum_shared(self, pairs: IntArray, change: IntArray) -> FloatArray:
        """Sum ``change`` of some pairs over the points on which their neurons fire now: ``D A^T``, (n, n)."""
        n = len(self.X)
        rows = self._dense_pays(self.row[pairs])
        if rows is not None:
            return self._dense_shared(rows, pairs, change)
        sums = np.zeros(n * n)
        for which, entries in self._edges(pairs):
            keys = self.point.take(pairs[which]) * n + self.point.take(entries)
            sums += np.bincount(keys, weights=change[which] * self.fired.take(entries), minlength=n * n)
        self.work["gram"] += int(self.touched[self.row[pairs]].sum())
        return sums.reshape(n, n)

    def _dense_shared(self, rows: IntArray, pairs: IntArray, change: IntArray) -> FloatArray:
        """Compute the same by float32 BLAS, whole rows at a time; counts below 2^24 are exact."""
        n = len(self.X)
        sums = np.zeros((n, n))
        order = np.argsort(self.row[pairs], kind="stable")
        ends = np.searchsorted(self.row[pairs], rows, side="right", sorter=order)
        begin = 0
        for block in _blocks(np.full(len(rows), n), EDGES):
            last = ends[block.stop - 1]
            own = pairs[order[begin:last]]
            changes, pattern = np.zeros((2, block.stop - block.start, n), dtype=np.float32)
            changes[np.searchsorted(rows[block], self.row[own]), self.point[own]] = change[order[begin:last]]
            which, entries = self._entries(rows[block], self.touched[rows[block]])
            pattern[which, self.point[entries]] = self.fired[entries]
            sums += changes.T @ pattern
            begin = last
        self.work["gram"] += len(rows) * n * n
        return sums


def _shrink(wait: FloatArray, factor: FloatArray) -> FloatArray:
    """Multiply waiting times by factors; a factor of 0 ends even an endless wait."""
    shrunk = np.zeros(len(wait))
    np.multiply(np.maximum(wait, 0), factor, out=shrunk, where=factor > 0)
    return shrunk


def _blocks(sizes: IntArray, most: int) -> Iterator[slice]:
    """Cut items into runs whose sizes sum to about ``most``, one item at least."""
    if not len(sizes):
        return
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(sizes):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield slice(begin, stop)
        begin = stop


def _near_pairs(
    weights: FloatArray, X: FloatArray, shift: float, band: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Read all weights once: neuron, data point and excess of every pair to be watched.

    Sorted by neuron; within a neuron, pairs that fire come first. Neurons that fire nowhere are left out.
    """
    n = len(X)
    found: list[tuple[IntArray, IntArray, FloatArray]] = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    rows = max(1, BLOCK_ENTRIES // n)
    for start in range(0, len(weights), rows):
        scores = (weights[start : start + rows] @ X.T).ravel()
        near = np.flatnonzero(scores >= shift - band)
        excess = scores[near] - shift
        neuron, point = np.divmod(near, n)
        fires = excess >= 0
        kept = np.flatnonzero((np.bincount(neuron, weights=fires) > 0)[neuron])
        # A radix sort, as the keys are small.
        keys = 2 * neuron[kept] + ~fires[kept]
        order = kept[np.argsort(keys.astype(np.uint16) if 2 * rows <= 1 << 16 else keys, kind="stable")]
        found.append((neuron[order] + start, point[order], excess[order]))
    neurons, points, excesses = zip(*found, strict=True)
    return np.concatenate(neurons), np.concatenate(points), np.concatenate(excesses)
