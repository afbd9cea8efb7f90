"""Identities that the project rests on, derived with SymPy instead of quoted.

Each function derives one side from a definition, states the other side as the project uses it, and returns
both as an `Identity`, which holds when their difference simplifies to 0::

    neuron_jacobian     d f / d w = m^(-1/2) a 1[fires] x                      away from the kink
    relu_second_moment  c_b = E max(Z - b, 0)^2 = (1 + b^2) Phi(-b) - b phi(b)
    tail_derivative     d P(z_1 >= b, z_2 >= b) / d rho = exp(-b^2 / (1 + rho)) / (2 pi sqrt(1 - rho^2))
    quadrature          the same with rho = -cos 2v: exp(-b^2 / (2 sin^2 v)) / pi per unit of v
    mills_ratio         Phi(-b) b / phi(b) -> 1                                as b -> oo
    limit_exponent      log(m Phi(-b)) / log m -> 1 - alpha                    with b = sqrt(2 alpha ln m)

A proof with a step that is not algebra says so in its docstring. Cost: about two seconds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp


@dataclass(frozen=True)
class Identity:
    """Two expressions that should be equal.

    Parameters
    ----------
    name : str
        What is equal, in a few words.
    derived : sympy.Expr
        From the definition.
    stated : sympy.Expr
        As the project uses it.
    """

    name: str
    derived: sp.Expr
    stated: sp.Expr

    @property
    def difference(self) -> sp.Expr:
        """``derived - stated``, simplified."""
        return sp.simplify((self.derived - self.stated).rewrite(sp.erf))

    @property
    def holds(self) -> bool:
        """Whether the difference is 0."""
        return bool(self.difference == 0)


def density(z: sp.Expr) -> sp.Expr:
    """Return ``phi(z)``, the standard normal density."""
    return sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)


def upper_tail(b: sp.Expr) -> sp.Expr:
    """Return ``Phi(-b)``, the probability that a standard normal variable is at least ``b``."""
    return sp.erfc(b / sp.sqrt(2)) / 2


def neuron_jacobian() -> tuple[Identity, ...]:
    """Differentiate one neuron in its weights, on both sides of the kink ([A], Definition 2.6).

    The neuron is ``m^(-1/2) a max(<w, x> - b, 0)`` with three inputs. The derivative is taken where ``<w,
    x>`` is ``b + p`` or ``b - p``, with ``p > 0``.

    Returns
    -------
    tuple of Identity
        Three inputs on the firing side, then three on the other.
    """
    w, x = sp.symbols("w1:4", real=True), sp.symbols("x1:4", real=True, nonzero=True)
    a, b = sp.symbols("a b", real=True)
    m, p = sp.symbols("m p", positive=True)
    inner = sum(wk * xk for wk, xk in zip(w, x, strict=True))
    neuron = a * sp.Max(inner - b, 0) / sp.sqrt(m)
    identities = []
    for fires, side in ((1, p), (0, -p)):
        first_weight = sp.solve(sp.Eq(inner, b + side), w[0])[0]  # puts <w, x> at b + side
        for k in range(3):
            derived = sp.simplify(sp.diff(neuron, w[k]).subs(w[0], first_weight))
            name = f"d f / d w{k + 1}, {'firing' if fires else 'silent'}"
            identities.append(Identity(name, derived, a * fires * x[k] / sp.sqrt(m)))
    return tuple(identities)


def relu_second_moment() -> Identity:
    """Integrate ``c_b = E max(Z - b, 0)^2``, the constant that keeps deep activations at unit length ([B]).

    Returns
    -------
    Identity

    Examples
    --------
    >>> relu_second_moment().holds
    True
    """
    b, z = sp.symbols("b z", real=True)
    derived = sp.integrate((z - b) ** 2 * density(z), (z, b, sp.oo))
    return Identity("E max(Z - b, 0)^2", derived, (1 + b**2) * upper_tail(b) - b * density(b))


def tail_derivative() -> tuple[Identity, ...]:
    """Differentiate ``P = P(z_1 >= b, z_2 >= b)`` in the correlation ``rho``, in three steps (Plackett 1954).

    1. The joint density ``p`` satisfies ``dp/drho = d^2 p / (dx dy)``.
    2. ``p(x, y) = phi(x) phi((y - rho x) / s) / s`` with ``s = sqrt(1 - rho^2)``, so ``p -> 0`` as ``x`` or
    ``y``
       grows (the two are exchangeable).
    3. Therefore ``dP/drho``, the integral of ``d^2 p / (dx dy)`` over ``x, y >= b``, is ``p(b, b)``: all
    other
       corners lie at infinity. (Exchanging derivative and integral is allowed, since ``p`` and its
       derivatives fall off like a Gaussian, uniformly for ``rho`` in a closed part of (-1, 1).)

    Returns
    -------
    tuple of Identity
        One per step.
    """
    x, y, b = sp.symbols("x y b", real=True)
    r = sp.Symbol("rho", real=True)
    joint = sp.exp(-(x**2 - 2 * r * x * y + y**2) / (2 * (1 - r**2))) / (2 * sp.pi * sp.sqrt(1 - r**2))
    factored = density(x) * density((y - r * x) / sp.sqrt(1 - r**2)) / sp.sqrt(1 - r**2)
    at_corner = sp.exp(-(b**2) / (1 + r)) / (2 * sp.pi * sp.sqrt(1 - r**2))
    return (
        Identity("dp/drho = d^2p/(dx dy)", sp.diff(joint, r), sp.diff(joint, x, y)),
        Identity("p = phi(x) phi((y - rho x) / s) / s", joint, factored),
        Identity("dP/drho = p(b, b)", joint.subs({x: b, y: b}), at_corner),
    )


def quadrature() -> Identity:
    """Substitute ``rho = -cos 2v`` in ``dP/drho``: the integrand of `reference.shifted_ntk`.

    Returns
    -------
    Identity
    """
    v, b = sp.symbols("v b", real=True)
    rho = -sp.cos(2 * v)
    # On 0 < v < pi / 2 the sine of 2v is positive, so it is the root of 1 - rho^2.
    root = sp.sin(2 * v)
    derived = sp.exp(-(b**2) / (1 + rho)) / (2 * sp.pi * root) * sp.diff(rho, v)
    return Identity("dP/dv", derived, sp.exp(-(b**2) / (2 * sp.sin(v) ** 2)) / sp.pi)


def mills_ratio() -> tuple[Identity, ...]:
    """Find the limit of ``Phi(-b) b / phi(b)`` as ``b -> oo`` by l'Hopital's rule: both its terms vanish.

    Returns
    -------
    tuple of Identity
        The limits of ``Phi(-b)`` and of ``phi(b) / b``, both 0; then the limit of the quotient of their
        derivatives.
    """
    b = sp.Symbol("b", positive=True)
    top, bottom = upper_tail(b), density(b) / b
    quotient = sp.simplify(sp.diff(top, b) / sp.diff(bottom, b))  # b^2 / (1 + b^2)
    return (
        Identity("Phi(-b) -> 0", sp.limit(top, b, sp.oo), sp.Integer(0)),
        Identity("phi(b) / b -> 0", sp.limit(bottom, b, sp.oo), sp.Integer(0)),
        Identity("Phi(-b) b / phi(b) -> 1", sp.limit(quotient, b, sp.oo), sp.Integer(1)),
    )


def limit_exponent() -> Identity:
    """Find the limit of ``log(m Phi(-b)) / log m`` as ``m`` grows, ``b = sqrt(2 alpha ln m)``, ``alpha > 0``.

    With ``l = ln m`` and ``M = Phi(-b) b / phi(b)``, exactly::

        log(m Phi(-b)) = l - b^2 / 2 - log(b sqrt(2 pi)) + log M

    ``M -> 1`` (see `mills_ratio`), so the last term vanishes even before it is divided by ``l``; SymPy takes
    the limit of the rest. At ``alpha = 0`` there is nothing to prove: ``Phi(0) = 1/2``.

    Returns
    -------
    Identity
    """
    ln_m, alpha = sp.symbols("l alpha", positive=True)
    b = sp.sqrt(2 * alpha * ln_m)
    log_fired = ln_m - b**2 / 2 - sp.log(b * sp.sqrt(2 * sp.pi))
    derived = sp.limit(sp.expand_log(log_fired / ln_m, force=True), ln_m, sp.oo)
    return Identity("log(m Phi(-b)) / log m -> 1 - alpha", derived, 1 - alpha)


def all_identities() -> tuple[Identity, ...]:
    """Derive everything in this module."""
    return (
        *neuron_jacobian(),
        relu_second_moment(),
        *tail_derivative(),
        quadrature(),
        *mills_ratio(),
        limit_exponent(),
    )
