"""How signals grow or die from layer to layer: the Gaussian law, and what to say when they died.

Mathematics (ours; that shifted ReLUs are unstable in depth was observed by Price et al., ICLR 2024). With
``h = c max(z - b, 0)``, ``z = W h_before``, the entries of ``W`` N(0, 1) and ``||h_before|| = s``, the entries of ``z``
are independent N(0, s^2). At ``s = 1``, with ``Phi`` and ``phi`` the normal tail and density::

    c_b   = E max(Z - b, 0)^2 = (1 + b^2) Phi(-b) - b phi(b)                  so c = (m c_b)^(-1/2) gives E ||h||^2 = 1
    kappa = E max(Z - b, 0)^4 / c_b^2,   the numerator (3 + 6 b^2 + b^4) Phi(-b) - (5 b + b^3) phi(b)
    gain  = d log E ||h||^2 / d log s^2 = Phi(-b) / c_b

(the derivative of ``E max(s Z - b, 0)^2`` is ``2 E max(Z - b, 0) Z = 2 Phi(-b)`` at ``s = 1``). So ``||h_l||^2``
fluctuates by ``(kappa - 1) / m`` of its own, and hands on what it inherits ``gain`` times in the logarithm; to first
order the variance of ``log ||h_l||^2`` is::

    spread_l^2 = (kappa - 1) / m (1 + gain^2 + ... + gain^(2 l - 2))

``gain`` is 1 for the plain ReLU and ``b^2 / 2`` for a large shift: fluctuations then grow like ``b^(2 l)``. A layer
*dies* on an input when none of its neurons fires there; it then dies in all later layers too if ``b > 0``.

The rounding of ``c_b`` is ``b^4`` units: its two terms cancel. ``normalized`` networks have no spread at all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from reference.notation import FloatArray, IntArray, NothingFiresError, SingularGramError
from reference.shifted_ntk import firing_probability

FEWEST_FIRED = 16.0
"""Neurons that should fire on an input at least, even where the signal is `DEVIATIONS` weaker than usual. With 8, Gram
matrices of normalized networks on 32 random points (d = 32) were mostly singular, with 12 some; with 16 every run over
all layers succeeded. It does not help against points that nearly coincide."""

DEATHS_EXPECTED = 0.01
"""Signals that may be expected to die, over all data points and layers, when as many fire as should."""

DEVIATIONS = 3.0
"""How unlucky an input may be, in standard deviations of the logarithm of ``||h||``."""

WIDEST = 1 << 60
"""No wider network is recommended."""

SHIFTS = (-1e100, 37.0)
"""Beyond these, ``c_b`` is no normal float64 number."""


class DeadSignalError(NothingFiresError):
    """On some data point no neuron of some layer fires; the message says on which, in which layer, and what helps."""


def second_moment(shift: float) -> float:
    """Return ``c_b = E max(Z - b, 0)^2`` for a standard normal ``Z`` (module docstring).

    Parameters
    ----------
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    >>> second_moment(0.0)
    0.5
    """
    return (1 + shift**2) * firing_probability(shift) - shift * _density(shift)


def kurtosis(shift: float) -> float:
    """Return ``kappa = E max(Z - b, 0)^4 / c_b^2``.

    Parameters
    ----------
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    >>> kurtosis(0.0)
    6.0
    """
    fourth = (3 + 6 * shift**2 + shift**4) * firing_probability(shift) - (5 * shift + shift**3) * _density(shift)
    return fourth / second_moment(shift) ** 2


def gain(shift: float) -> float:
    """Return how many times a small relative change of ``||h||^2`` is passed on to the next layer.

    Parameters
    ----------
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    >>> gain(0.0)
    1.0
    """
    return firing_probability(shift) / second_moment(shift)


def spread(width: int, shift: float, layer: int) -> float:
    """Predict the standard deviation of ``log ||h_l||^2`` over random weights, to first order in ``1 / m``.

    Parameters
    ----------
    width : int
        ``m``.
    shift : float
        ``b``.
    layer : int
        ``l``; 0 is the input, of unit length.

    Returns
    -------
    float
    """
    powers = 0.0
    for _ in range(layer):
        powers = 1 + gain(shift) ** 2 * powers  # may become infinite; a power would raise an error instead
    return math.sqrt((kurtosis(shift) - 1) / width * powers)


def fewest_fired(depth: int, n: int) -> float:
    """Return how many neurons should fire on an input on average: `FEWEST_FIRED`, or more for many data points.

    None fires with probability ``exp(-k)`` when ``k`` do on average, so ``n L exp(-k)`` deaths are to be expected.

    Parameters
    ----------
    depth : int
        Layers ``L``.
    n : int
        Number of data points.

    Returns
    -------
    float
    """
    return max(FEWEST_FIRED, math.log(n * depth / DEATHS_EXPECTED))


def healthy(width: int, alpha: float, depth: int, *, normalized: bool = False, n: int = 32) -> bool:
    """Tell whether signals are expected to reach the last layer on every input, strong enough to train.

    An input `DEVIATIONS` weaker than usual must still fire `fewest_fired` neurons of the last layer.

    Parameters
    ----------
    width : int
        ``m``, at least 2.
    alpha : float
        Sparsity exponent; the shift is ``sqrt(2 alpha ln m)``.
    depth : int
        Layers ``L``.
    normalized : bool
        Whether every layer's signal has length 1.
    n : int
        Number of data points.

    Returns
    -------
    bool

    Examples
    --------
    >>> healthy(2**13, 0.1, 2), healthy(2**13, 0.4, 2)
    (True, False)
    """
    shift, fewest = math.sqrt(2 * alpha * math.log(width)), fewest_fired(depth, n)
    if width * firing_probability(shift) < fewest:
        return False  # too few even at full strength; far out `kurtosis` cannot be computed
    weakest = 1.0 if normalized else math.exp(-DEVIATIONS * spread(width, shift, depth - 1) / 2)
    return width * firing_probability(shift / max(weakest, sys.float_info.min)) >= fewest


def wide_enough(alpha: float, depth: int, *, normalized: bool = False, n: int = 32) -> int | None:
    """Return the smallest power of 2 from which on `healthy` holds at this alpha, or nothing up to `WIDEST`."""
    width = WIDEST
    while width >= 2 and healthy(width, alpha, depth, normalized=normalized, n=n):
        width //= 2
    return None if width == WIDEST else 2 * width


def low_enough(width: int, depth: int, *, normalized: bool = False, n: int = 32) -> float:
    """Return the largest multiple of 0.01 up to which `healthy` holds at this width; 0 if there is none."""
    steps = 0
    while steps < 100 and healthy(width, (steps + 1) / 100, depth, normalized=normalized, n=n):
        steps += 1
    return steps / 100


class Shape(Protocol):
    """What of a network decides whether its signals live."""

    @property
    def width(self) -> int:
        """Neurons of a layer, ``m``."""
        ...

    @property
    def depth(self) -> int:
        """Layers ``L``."""
        ...

    @property
    def shift(self) -> float:
        """Shift ``b``."""
        ...

    @property
    def normalized(self) -> bool:
        """Whether every layer's signal has length 1."""
        ...


def check_signals(fired: Sequence[IntArray], lengths: Sequence[FloatArray], network: Shape) -> None:
    """Stop when some layer is dead on some data point.

    Parameters
    ----------
    fired : sequence of L ndarray (n,) of int
        How many neurons of each layer fire on each point, the first layer first.
    lengths : sequence of L ndarray (n,)
        Length of the signal that enters each layer; the first has the input's.
    network : MultiLayerNetwork
        Says ``m``, ``b``, and whether layers are normalized.

    Raises
    ------
    DeadSignalError
        Names, for every layer in which signals die, the first points, and what width, alpha or option would help.

    """
    alive = np.ones(len(fired[0]), dtype=np.bool_)
    deaths, layers = [], []
    for layer, (count, length) in enumerate(zip(fired, lengths, strict=True), start=1):
        died = np.flatnonzero(alive & (count == 0))
        alive &= count > 0
        if died.size:
            layers.append(layer)
            weakest = float(length[died].max())
            deaths.append(
                f"in layer {layer} on {died.size} of {len(count)} data point(s), the first of them {int(died[0])} "
                f"(length {weakest:.3g} before the layer, {float(length.max()):.3g} at its best)"
            )
    if deaths:
        raise DeadSignalError(
            f"the signal dies {' and '.join(deaths)}: no neuron fires, so the gradient is zero there; "
            f"{remedy(network, layer=layers[0], n=len(alive))}"
        )


@contextmanager
def singular_explained(fired: Sequence[IntArray], network: Shape) -> Iterator[None]:
    """Say of a singular Gram matrix which signal is weakest, and what would strengthen it.

    Parameters
    ----------
    fired : sequence of L ndarray (n,) of int
        How many neurons of each layer fire on each point.
    network : MultiLayerNetwork
        Says ``m``, ``b``, and whether layers are normalized.

    Raises
    ------
    SingularGramError
        With a longer message, in place of one raised inside.
    """
    try:
        yield
    except SingularGramError as singular:
        layer, point = divmod(int(np.argmin(fired)), len(fired[0]))
        raise SingularGramError(
            f"{singular}. The weakest signal is that of data point {point} in layer {layer + 1}, where "
            f"{int(fired[layer][point])} of {network.width} neurons fire: "
            f"{remedy(network, layer=layer + 1, n=len(fired[0]))}"
        ) from singular


def remedy(network: Shape, *, layer: int, n: int) -> str:
    """Say what would keep signals alive: a width, an alpha, or normalized layers.

    Parameters
    ----------
    network : MultiLayerNetwork
        Says ``m``, ``b``, ``L``, and whether layers are normalized.
    layer : int
        The first in which a signal is too weak. What enters layer 1 is the input, whatever ``normalized`` says.
    n : int
        Number of data points.

    Returns
    -------
    str
        By the law of Gaussian weights; trained ones may need more.
    """
    width, shift, depth, normalized = network.width, network.shift, network.depth, network.normalized
    alpha = shift**2 / (2 * math.log(width)) if width > 1 and shift > 0 else 0.0
    wide = wide_enough(alpha, depth, normalized=normalized, n=n)
    low = min(low_enough(width, depth, normalized=normalized, n=n), math.floor(90 * alpha) / 100)
    ways = []
    if wide is not None:
        ways.append(f"widen the network (here {width}) to {max(wide, 2 * width)}")
    if low > 0:
        ways.append(f"lower alpha (here {alpha:.3g}) to {low:.2f}")
    if layer > 1 and not normalized and healthy(width, alpha, depth, normalized=True, n=n):
        ways.append("use normalized=True")
    return ", or ".join(ways) if ways else "use fewer layers or other weights"


def _density(b: float) -> float:
    return math.exp(-(b**2) / 2) / math.sqrt(2 * math.pi)
