"""The derivations, each side also evaluated as numbers; and a false identity, which must not pass."""

from __future__ import annotations

import math

import pytest
import sympy as sp
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from verify import symbolic
from verify.symbolic import Identity


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, ...]:
    return symbolic.all_identities()


def test_every_identity_holds(identities: tuple[Identity, ...]) -> None:
    assert {identity.name: identity.difference for identity in identities} == {
        identity.name: 0 for identity in identities
    }
    assert all(identity.holds for identity in identities)


def test_all_functions_are_listed(identities: tuple[Identity, ...]) -> None:
    names = [identity.name for identity in identities]
    assert len(names) == len(set(names)) == 6 + 1 + 3 + 1 + 3 + 1


@pytest.mark.parametrize("wrong", ["constant", "sign", "term"])
def test_a_false_identity_does_not_hold(wrong: str) -> None:
    true = symbolic.relu_second_moment()
    b = sp.Symbol("b", real=True)
    stated = {
        "constant": true.stated * sp.Rational(1001, 1000),
        "sign": -true.stated,
        "term": true.stated - b * symbolic.density(b),
    }
    assert not Identity("false", true.derived, stated[wrong]).holds


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7, 2.5])
def test_second_moment_as_a_number(shift: float) -> None:
    stated = symbolic.relu_second_moment().stated.subs(sp.Symbol("b", real=True), shift)
    expected, _ = quad(lambda z: (z - shift) ** 2 * norm.pdf(z), shift, shift + 12, epsabs=1e-14)
    assert float(stated) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("rho", "shift"), [(-0.6, 0.5), (0.0, 1.0), (0.5, 2.0)])
def test_tail_derivative_as_a_number(rho: float, shift: float) -> None:
    b, r = sp.Symbol("b", real=True), sp.Symbol("rho", real=True)
    stated = float(symbolic.tail_derivative()[-1].stated.subs({b: shift, r: rho}))

    def tail(correlation: float) -> float:  # by symmetry P(z >= b) = P(z <= -b)
        return float(multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf([-shift, -shift]))

    step = 1e-4
    assert (tail(rho + step) - tail(rho - step)) / (2 * step) == pytest.approx(stated, rel=1e-5)


def test_limits_are_approached() -> None:
    for b in (10.0, 30.0):
        assert norm.sf(b) * b / norm.pdf(b) == pytest.approx(1, abs=1.01 / b**2)
    exponents = []
    for log_m in (1e2, 1e4, 1e6):
        b = math.sqrt(2 * 0.24 * log_m)
        exponents.append((log_m + norm.logsf(b)) / log_m)
    assert exponents == sorted(exponents)
    limit = float(symbolic.limit_exponent().derived.subs(sp.Symbol("alpha", positive=True), 0.24))
    assert exponents[-1] == pytest.approx(limit, abs=1e-5)
