"""Claim: the fast rectangular product multiplies as little as Strassen promises, and errs no more than its bound.

What is asked (Strassen 1969; Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 23.2.2)
1. ``count``     Does every run multiply as often as the closed form says, typed again here, and as the code under test
   says? All leaves go through a product that the harness passes in and that counts ``p q r``. That would be testimony
   only, so the same product writes zeros: a result other than zero was computed behind its back, and fails. (What is
   thrown away takes time: `verify.claims.solve_time`.) And is the default leaf the one that is documented?
2. ``exponent``  Is the slope of log count against log size ``log2 7``, over squares of side ``leaf 2^j``?
3. ``error``     Is no entry further off than the bound of the code under test, and is that bound no more than 2% above
   the theorem's, typed again here? (A bound that is far too large would hold as well.) The truth is exact: entries are
   whole numbers, multiplied as Python integers. Counts and bounds admit no exception, so one failure decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from reference.notation import UNIT_ROUNDOFF, FloatArray
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_below, decide_inside, make_finding, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

COUNT_SHAPES = ((64, 64, 64), (97, 101, 103), (300, 40, 300), (40, 300, 40), (1, 200, 200), (255, 256, 257))
"""Set sizes; `cells` adds drawn ones."""
COUNT_LEAVES = (4, 7, 32)
DEFAULT_LEAF = 2048
"""Of `fast.rectangular_product`, typed again."""
LARGEST_SIDE, DRAWN_SHAPES, THOROUGH_DRAWN_SHAPES = 200, 12, 100

EXPONENT_LEAF, LEVELS, THOROUGH_LEVELS = 8, 5, 6
EXPONENT_MARGIN = 0.01

ERROR_SHAPES = ((48, 48, 48), (41, 53, 47), (72, 16, 72), (16, 96, 16), (300, 7, 6))
"""The last has more rows than a strip is added to at a time."""
ERROR_LEAVES = (3, 12, 64)
KINDS = ("normal", "positive", "rows", "inner")
ERROR_SEEDS, THOROUGH_ERROR_SEEDS = 3, 30
DIGITS, SPREAD = 46, 24
"""Entries are normal numbers times ``2^46``, rounded; badly scaled ones are up to ``2^24`` times smaller."""
BOUND_SLACK = 1.02

CLAIMS = (
    Claim(
        "rectangular_product.count",
        "For any shape the fast product multiplies exactly 7^L leaves, and the strips around them, as its closed form "
        "says; nothing is multiplied elsewhere. "
        f"By default leaves have sides of {DEFAULT_LEAF} and more.",
        "Strassen (1969); edges ours",
    ),
    Claim(
        "rectangular_product.exponent",
        "The multiplications of a square product grow with exponent log2 7 = 2.807 in the size, not 3.",
        "Strassen (1969)",
    ),
    Claim(
        "rectangular_product.error",
        "No entry of the fast product errs by more than its bound, which is Strassen's from the textbook to 2%.",
        "Higham (2nd ed., Theorem 23.2); rectangular shapes ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List what to measure; see the module docstring."""
    drawn = THOROUGH_DRAWN_SHAPES if profile.thorough else DRAWN_SHAPES
    levels = THOROUGH_LEVELS if profile.thorough else LEVELS
    seeds = THOROUGH_ERROR_SEEDS if profile.thorough else ERROR_SEEDS
    count: list[Inputs] = [{"part": "count", "leaf": leaf, "drawn": drawn} for leaf in COUNT_LEAVES]
    errors: list[Inputs] = [{"part": "error", "kind": kind, "seed": seed} for kind in KINDS for seed in range(seeds)]
    return [*count, {"part": "default"}, {"part": "exponent", "levels": levels}, *errors]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure one cell."""
    if inputs["part"] == "error":
        return measure_error(inputs["kind"], rng, code)
    if inputs["part"] == "exponent":
        sides = [EXPONENT_LEAF << level for level in range(inputs["levels"] + 1)]
        runs = [count((side, side, side), EXPONENT_LEAF, rng, code) for side in sides]
        return {"sides": sides, "counted": [run["counted"] for run in runs]}
    if inputs["part"] == "default":
        return first_leaf(code)
    drawn = rng.integers(1, LARGEST_SIDE, (inputs["drawn"], 3)).tolist()
    shapes = [list(shape) for shape in COUNT_SHAPES] + drawn
    return {"runs": [count(tuple(shape), inputs["leaf"], rng, code) for shape in shapes]}


def count(shape: tuple[int, int, int], leaf: int, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Count what one product multiplies, beside what it should; tell whether the result has another origin."""
    p, q, r = shape
    counted = 0

    def product(A: FloatArray, B: FloatArray, out: FloatArray) -> None:
        nonlocal counted
        counted += A.shape[0] * A.shape[1] * B.shape[1]
        out[:] = 0

    C = code.rectangular_product(rng.standard_normal((p, q)), rng.standard_normal((q, r)), leaf=leaf, product=product)
    return {
        "shape": [p, q, r],
        "counted": counted,
        "stated": int(code.rectangular_multiplications(p, q, r, leaf=leaf)),
        "expected": closed_form(p, q, r, leaf),
        "elsewhere": bool(np.any(C)),
    }


class LeafReachedError(Exception):
    """Ends a product at its first leaf."""


def first_leaf(code: CodeUnderTest) -> Result:
    """Find the leaf of the smallest square that is halved by default, and how often that multiplies by its own word."""
    side = 2 * DEFAULT_LEAF
    reached: list[int] = []

    def stop(A: FloatArray, B: FloatArray, out: FloatArray) -> None:
        reached.extend((*A.shape, B.shape[1]))
        raise LeafReachedError

    zeros = np.zeros((side, side))
    with suppress(LeafReachedError):
        code.rectangular_product(zeros, zeros, product=stop)
    return {"leaf": reached, "stated": int(code.rectangular_multiplications(side, side, side))}


def halvings(p: int, q: int, r: int, leaf: int) -> int:
    """Return how often all three sides can be halved before one falls below ``leaf``.

    Examples
    --------
    >>> halvings(31, 40, 50, 8), halvings(32, 40, 50, 8), halvings(1, 9, 9, 8)
    (1, 2, 0)
    """
    level = 0
    while min(p, q, r) >= leaf * 2 ** (level + 1):
        level += 1
    return level


def closed_form(p: int, q: int, r: int, leaf: int) -> int:
    """Return the multiplications of Strassen's product with its edges cut off once.

    Examples
    --------
    One halving of (4, 4, 4): seven products of (2, 2, 2). A fifth row is multiplied by itself.

    >>> closed_form(4, 4, 4, 2), closed_form(5, 4, 4, 2)
    (56, 72)
    """
    level = halvings(p, q, r, leaf)
    a, b, c = p >> level, q >> level, r >> level
    return int(7**level - 8**level) * a * b * c + p * q * r


def theorem(p: int, q: int, r: int, leaf: int) -> float:
    """Return the first-order bound in units of ``u max|A| max|B|``.

    Examples
    --------
    One halving of 2: ``12 (1 + 5) - 5 * 2``.

    >>> theorem(2, 2, 2, 1)
    62.0
    """
    level = halvings(p, q, r, leaf)
    k = q // 2**level
    rest = q - k * 2**level
    bound: float = 12.0**level * (k**2 + 5 * k) - 5.0 * k * 2**level
    return bound + (rest**2 + q if rest else 0)


def draw(kind: str, p: int, q: int, r: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw two matrices of whole numbers, badly scaled by rows and columns, by inner index, or not."""
    A, B = rng.standard_normal((p, q)), rng.standard_normal((q, r))
    if kind == "positive":
        A, B = np.abs(A), np.abs(B)
    elif kind == "rows":
        A /= 2.0 ** rng.integers(0, SPREAD + 1, (p, 1))
        B /= 2.0 ** rng.integers(0, SPREAD + 1, r)
    elif kind == "inner":
        powers = rng.integers(0, SPREAD + 1, q)
        A /= 2.0**powers
        B /= 2.0 ** (SPREAD - powers[:, np.newaxis])
    return np.rint(A * 2.0**DIGITS), np.rint(B * 2.0**DIGITS)


def exact_error(C: FloatArray, A: FloatArray, B: FloatArray) -> float:
    """Return the largest error of an entry; a result that is not finite is infinitely wrong.

    Parameters
    ----------
    C : ndarray (p, r)
        What ``A B`` is said to be.
    A : ndarray (p, q)
        Whole numbers.
    B : ndarray (q, r)
        Whole numbers.

    Returns
    -------
    float

    Examples
    --------
    >>> exact_error(np.array([[7.0]]), np.array([[2.0]]), np.array([[3.0]]))
    1.0
    """
    if C.shape != (len(A), B.shape[1]) or not np.isfinite(C).all():
        return math.inf
    # Rounded sums and products of whole numbers are whole numbers; of another result the fraction is negligible.
    found, left, right = (np.array([[int(x) for x in row] for row in M.tolist()], dtype=object) for M in (C, A, B))
    return float(np.abs(found - left @ right).max())


def measure_error(kind: str, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure errors in units of the bound, and the bound in units of the theorem's."""
    shares, bounds = [], []
    for p, q, r in ERROR_SHAPES:
        A, B = draw(kind, p, q, r, rng)
        scale = UNIT_ROUNDOFF * float(np.abs(A).max() * np.abs(B).max())
        for leaf in ERROR_LEAVES:
            bound = float(code.rectangular_error_bound(A, B, leaf=leaf))
            shares.append(exact_error(code.rectangular_product(A, B, leaf=leaf), A, B) / bound)
            bounds.append(bound / (scale * theorem(p, q, r, leaf)))
    return {"shares": shares, "bounds": bounds}


def decide(results: Results) -> list[Finding]:
    """Compare counts, fit the slope, compare errors with bounds; in the order of `CLAIMS`."""
    names = ("count", "default", "exponent", "error")
    count, default, exponent, error = ([(i, r) for i, r in results if i["part"] == name] for name in names)
    return [_decide_count(count, default), _decide_exponent(exponent), _decide_error(error)]


def _decide_count(results: Results, defaults: Results) -> Finding:
    runs = [(inputs["leaf"], run) for inputs, result in results for run in result["runs"]]
    wrong: list[tuple[object, Result]] = [
        (leaf, run)
        for leaf, run in runs
        if not run["counted"] == run["stated"] == run["expected"] or run["elsewhere"]
    ]
    side = 2 * DEFAULT_LEAF
    expected = {"leaf": [DEFAULT_LEAF] * 3, "stated": closed_form(side, side, side, DEFAULT_LEAF)}
    wrong += [("by default", result) for _, result in defaults if result != expected]
    number = len(runs) + len(defaults)
    example = f"; e.g. leaf {wrong[0][0]}: {wrong[0][1]}" if wrong else ""
    share = len(wrong) / number
    return make_finding(
        "rectangular_product.count",
        Interval(share, share, share),
        "fails" if wrong else "holds",
        margin="= 0 (share of runs that differ)",
        domain=f"sides 1..{max(max(run['shape']) for _, run in runs)}, leaf {', '.join(map(str, COUNT_LEAVES))}; the "
        f"first leaf by default at side {side}",
        reason=f"{len(wrong)} of {number} runs multiply otherwise than stated, or elsewhere{example}.",
    )


def _decide_exponent(results: Results) -> Finding:
    ((_, result),) = results
    # A counter that stands still has no logarithm, and then no slope: invalid.
    with np.errstate(divide="ignore"):
        steepness, _ = slope(np.log(result["sides"]), np.log(result["counted"]))
    interval = Interval(steepness, steepness, steepness)
    target = math.log2(7)
    return make_finding(
        "rectangular_product.exponent",
        interval,
        decide_inside(interval, target - EXPONENT_MARGIN, target + EXPONENT_MARGIN),
        margin=f"within +-{EXPONENT_MARGIN} of log2 7",
        domain=f"squares of side {result['sides'][0]}..{result['sides'][-1]}, leaf {EXPONENT_LEAF}",
        reason="Slope of log multiplications against log size; counts are exact, so there is no interval.",
    )


def _decide_error(results: Results) -> Finding:
    shares = np.array([share for _, result in results for share in result["shares"]])
    bounds = np.array([bound for _, result in results for bound in result["bounds"]])
    worst = float(shares.max())
    interval = Interval(worst, float(shares.min()), worst)
    verdict = decide_below(interval, 1.0)
    vacuous = not bounds.max() <= BOUND_SLACK
    return make_finding(
        "rectangular_product.error",
        interval,
        # One error beyond its bound refutes it.
        "fails" if verdict == "undecided" or worst == math.inf or (verdict == "holds" and vacuous) else verdict,
        margin=f"<= 1 (largest error over bound), bound <= {BOUND_SLACK} times the theorem's",
        domain=f"entries {', '.join(KINDS)}; sides {min(map(min, ERROR_SHAPES))}..{max(map(max, ERROR_SHAPES))}, "
        f"leaf {', '.join(map(str, ERROR_LEAVES))}; {len(shares)} products",
        reason=f"The largest error was {worst:.2g} of its bound, the median {np.median(shares):.2g}; the bound was at "
        f"most {bounds.max():.3g} of the theorem's.",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw counts against the schoolbook's, and errors in units of their bound."""
    counts, errors = figure.subplots(1, 2)
    for inputs, result in results:
        if inputs["part"] == "exponent":
            sides = np.array(result["sides"], dtype=float)
            counts.loglog(sides, result["counted"], "o-", label="fast")
            counts.loglog(sides, sides**3, "--", color="black", marker="", label="schoolbook")
    counts.set(xlabel="size of a square product", ylabel="multiplications")
    counts.set_xscale("log", base=2)
    counts.legend(frameon=False)
    for column, kind in enumerate(KINDS):
        shares = [s for i, r in results if i["part"] == "error" and i["kind"] == kind for s in r["shares"]]
        finite = [min(max(share, 1e-9), 1e9) for share in shares]
        errors.semilogy(column + np.linspace(-0.3, 0.3, len(finite)), finite, ".", markersize=3)
    errors.axhline(1, color="black", linewidth=1, label="bound")
    errors.set_xticks(range(len(KINDS)), KINDS)
    errors.set_ylabel("largest error over bound")
    errors.legend(frameon=False)


EXPERIMENT = Experiment(
    name="rectangular_product",
    title="The fast rectangular product",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
