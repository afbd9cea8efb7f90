from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import fast.multi_layer_gauss_newton
from reference.multi_layer import MultiLayerNetwork, forward, initialize
from reference.notation import InputError, SingularGramError
from reference.shifted_ntk import firing_probability
from reference.signals import (
    DEATHS_EXPECTED,
    DEVIATIONS,
    FEWEST_FIRED,
    WIDEST,
    DeadSignalError,
    check_signals,
    fewest_fired,
    gain,
    healthy,
    kurtosis,
    low_enough,
    remedy,
    second_moment,
    singular_explained,
    spread,
    wide_enough,
)
from reference.two_layer import shift_for
from verify.problems import unit_rows


def moment(shift: float, power: int) -> float:
    """Integrate ``max(z - b, 0)^power`` times the normal density, from the kink on."""
    value, _ = integrate.quad(
        lambda t: t**power * math.exp(-((t + shift) ** 2) / 2) / math.sqrt(2 * math.pi), 0, 40, epsabs=0, limit=200
    )
    return float(value)


@given(st.floats(-1, 6))
def test_the_moments_agree_with_quadrature(shift: float) -> None:
    second, fourth = moment(shift, 2), moment(shift, 4)
    assert firing_probability(shift) == pytest.approx(float(stats.norm.sf(shift)), rel=1e-12)
    assert second_moment(shift) == pytest.approx(second, rel=1e-9)
    assert kurtosis(shift) == pytest.approx(fourth / second**2, rel=1e-8)
    assert gain(shift) == pytest.approx(moment(shift, 0) / second, rel=1e-9)


@given(st.floats(-1, 6))
def test_the_gain_is_the_logarithmic_derivative_that_it_claims_to_be(shift: float) -> None:
    """``E max(s Z - b, 0)^2 = s^2 c_(b/s)``, differentiated at ``s = 1`` by central differences."""
    step = 1e-5

    def logarithm(log_square: float) -> float:
        s = math.exp(log_square / 2)
        return math.log(s**2 * second_moment(shift / s))

    assert (logarithm(step) - logarithm(-step)) / (2 * step) == pytest.approx(gain(shift), rel=1e-6)


def test_the_limits_are_those_that_sympy_finds() -> None:
    b, t = sympy.symbols("b t", positive=True)
    density = sympy.exp(-((t + b) ** 2) / 2) / sympy.sqrt(2 * sympy.pi)
    zeroth, second, fourth = (sympy.integrate(t**power * density, (t, 0, sympy.oo)) for power in (0, 2, 4))
    assert sympy.limit(second, b, 0) == sympy.Rational(1, 2)
    assert sympy.limit(fourth / second**2, b, 0) == 6
    assert sympy.limit(zeroth / second, b, 0) == 1
    assert (second_moment(0.0), kurtosis(0.0), gain(0.0)) == (0.5, 6.0, 1.0)
    # Mills' ratio: Phi(-b) / phi(b) ~ 1/b - 1/b^3 + 3/b^5 - ..., integrated against t^2, gives 2 / b^3.
    mills = sum((-1) ** k * sympy.factorial2(2 * k - 1) / b ** (2 * k + 1) for k in range(4))
    asymptotic = mills / ((1 + b**2) * mills - b)
    assert sympy.limit(asymptotic / (b**2 / 2), b, sympy.oo) == 1
    ratios = [gain(shift) / (shift**2 / 2) for shift in (2.0, 4.0, 8.0, 16.0, 32.0)]
    assert all(0 < later - 1 < 0.6 * (earlier - 1) for earlier, later in pairwise(ratios))
    assert ratios[-1] == pytest.approx(1, abs=0.01)
    for shift in (0.5, 3.0):
        for mine, theirs in ((second_moment, second), (firing_probability, zeroth)):
            assert mine(shift) == pytest.approx(float(theirs.subs(b, sympy.Rational(shift)).evalf(30)), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.02])
def test_the_spread_is_that_of_wide_random_networks(alpha: float) -> None:
    """Many networks, one input; the standard deviation of ``log ||h||^2`` from 150 of them is good to about 6%."""
    width, depth, networks = 400, 2, 150
    rng = np.random.default_rng(7)
    shift = shift_for(width, alpha)
    logarithms = np.empty((networks, depth))
    for k in range(networks):
        hidden = forward(initialize(width, 1, depth, shift=shift, rng=rng), [[1.0]]).hidden
        logarithms[k] = [2 * math.log(np.linalg.norm(h)) for h in hidden[1:]]
    for layer in range(1, depth + 1):
        predicted = spread(width, shift, layer)
        assert float(logarithms[:, layer - 1].std()) == pytest.approx(predicted, rel=0.2)


def test_the_spread_is_a_sum_of_inherited_fluctuations() -> None:
    assert spread(100, 1.0, 0) == 0
    own = (kurtosis(1.0) - 1) / 100
    g = gain(1.0) ** 2
    for layer, powers in enumerate([1, 1 + g, 1 + g + g**2, 1 + g + g**2 + g**3], start=1):
        assert spread(100, 1.0, layer) == pytest.approx(math.sqrt(own * powers))
    assert spread(10**6, 8.0, 500) == math.inf  # beyond float64, and no OverflowError


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_healthy_means_enough_fired_neurons_at_the_weakest(depth: int, normalized: bool) -> None:
    for width in (2, 64, 2**11, 2**30):
        for alpha in (0.0, 0.05, 0.2, 0.4, 0.7):
            b = shift_for(width, alpha)
            strength = 1.0
            if not normalized and depth > 1:
                strength = math.exp(-DEVIATIONS * spread(width, b, depth - 1) / 2)
            for n in (1, 32, 10**9):
                fewest = max(FEWEST_FIRED, math.log(n * depth / DEATHS_EXPECTED))
                expected = width * firing_probability(b / strength) >= fewest if strength > 1e-300 else False
                assert healthy(width, alpha, depth, normalized=normalized, n=n) == expected


def test_many_data_points_ask_for_more_fired_neurons() -> None:
    assert fewest_fired(1, 1) == fewest_fired(3, 32) == FEWEST_FIRED
    n, depth = 10**7, 3
    assert n * depth * math.exp(-fewest_fired(depth, n)) == pytest.approx(DEATHS_EXPECTED)
    assert (wide_enough(0.24, 1), wide_enough(0.24, 1, n=10**9)) == (512, 1024)
    assert (low_enough(512, 1), low_enough(512, 1, n=10**9)) == (0.27, 0.21)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("normalized", [False, True])
def test_networks_as_recommended_train(depth: int, normalized: bool) -> None:
    """Six seeds, and five must do. Where 5 neurons a point fire, the normalized ones and those of depth 1 do not."""
    width = 512
    fits = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X = unit_rows(32, 32, rng)
        shift = shift_for(width, low_enough(width, depth, normalized=normalized))
        network = initialize(width, 32, depth, shift=shift, rng=rng, normalized=normalized)
        try:
            trace = fast.multi_layer_gauss_newton.train(
                network,
                X,
                rng.choice([-1.0, 1.0], 32),
                trained_layers=range(1, depth + 1),
                iterations=30,
                tolerance=1e-6,
            )
        except InputError:
            continue
        fits += trace.converged
    assert fits >= 5, f"{fits} of 6 trained at alpha = {low_enough(width, depth, normalized=normalized)}"


@settings(max_examples=100)
@given(st.integers(1, 45), st.integers(0, 100), st.integers(1, 5), st.booleans())
def test_health_falls_with_alpha_and_depth_and_is_no_worse_normalized(
    log_width: int, hundredths: int, depth: int, normalized: bool
) -> None:
    width, alpha = 2**log_width, hundredths / 100
    if healthy(width, alpha, depth, normalized=normalized):
        assert healthy(width, max(0.0, alpha - 0.01), depth, normalized=normalized)
        assert healthy(width, alpha, max(1, depth - 1), normalized=normalized)
        assert healthy(width, alpha, depth, normalized=True)
        if alpha < 1:
            assert healthy(2 * width, alpha, depth, normalized=normalized)


@settings(max_examples=100)
@given(st.integers(0, 100), st.integers(1, 4), st.booleans())
def test_the_width_recommended_is_the_smallest_from_which_on_signals_live(
    hundredths: int, depth: int, normalized: bool
) -> None:
    alpha = hundredths / 100
    width = wide_enough(alpha, depth, normalized=normalized)
    if width is None:
        assert not healthy(WIDEST, alpha, depth, normalized=normalized)
        return
    assert math.log2(width).is_integer()
    assert not healthy(width // 2, alpha, depth, normalized=normalized)
    for doublings in range(60):
        if width << doublings <= WIDEST:
            assert healthy(width << doublings, alpha, depth, normalized=normalized)
    assert low_enough(width, depth, normalized=normalized) >= alpha
    assert low_enough(width // 2, depth, normalized=normalized) <= alpha


@settings(max_examples=100)
@given(st.integers(1, 60), st.integers(1, 4), st.booleans())
def test_the_alpha_recommended_is_the_largest_up_to_which_signals_live(
    log_width: int, depth: int, normalized: bool
) -> None:
    width = 2**log_width
    alpha = low_enough(width, depth, normalized=normalized)
    steps = round(100 * alpha)
    assert alpha == steps / 100
    assert all(healthy(width, k / 100, depth, normalized=normalized) for k in range(1, steps + 1))
    assert steps == 100 or not healthy(width, (steps + 1) / 100, depth, normalized=normalized)


def test_known_recommendations_stay() -> None:
    """A guard against drift."""
    assert (wide_enough(0.0, 3), wide_enough(0.0, 3, normalized=True)) == (32, 32)
    assert (wide_enough(0.24, 2), wide_enough(0.24, 2, normalized=True)) == (8192, 512)
    assert (wide_enough(1.0, 2), wide_enough(30.0, 9), wide_enough(30.0, 9, normalized=True)) == (None, None, None)
    assert not healthy(WIDEST, 0.8, 12)  # fluctuations so large that the weakest signal underflows
    assert (low_enough(2, 2), low_enough(2**13, 2), low_enough(2**13, 2, normalized=True)) == (0.0, 0.26, 0.46)


# What is said when signals died


def two_layers(normalized: bool = False, shift: float = 1.0, width: int = 2) -> MultiLayerNetwork:
    return MultiLayerNetwork([np.ones((width, 1)), np.ones((width, width))], np.ones(width), shift, normalized)


def test_deaths_are_told_layer_by_layer() -> None:
    """Points 1 and 3 die in layer 1, point 2 in layer 2; who is dead already is not counted again."""
    fired = [np.array([2, 0, 1, 0]), np.array([1, 0, 0, 0])]
    lengths = [np.array([1.0, 0.5, 1.0, 0.25]), np.array([2.0, 0.0, 0.125, 0.0])]
    network = two_layers(width=100, shift=2.0)
    with pytest.raises(DeadSignalError) as caught:
        check_signals(fired, lengths, network)
    assert str(caught.value) == (
        "the signal dies in layer 1 on 2 of 4 data point(s), the first of them 1 (length 0.5 before the layer, 1 at "
        "its best) and in layer 2 on 1 of 4 data point(s), the first of them 2 (length 0.125 before the layer, 2 at "
        "its best): no neuron fires, so the gradient is zero there; " + remedy(network, layer=1, n=4)
    )


def test_who_died_once_is_not_counted_again_though_neurons_fire_on_no_signal() -> None:
    """With a negative shift they do."""
    fired = [np.array([0, 1]), np.array([2, 2]), np.array([0, 1])]
    with pytest.raises(DeadSignalError, match=r"in layer 1 on 1 of 2 data point\(s\)") as caught:
        check_signals(fired, [np.ones(2)] * 3, two_layers(shift=-1.0))
    assert "layer 3" not in str(caught.value)


def test_signals_that_live_are_not_complained_about() -> None:
    check_signals([np.array([1, 2]), np.array([3, 1])], [np.ones(2), np.ones(2)], two_layers())


def test_a_layer_more_or_less_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        check_signals([np.array([1])], [np.ones(1), np.ones(1)], two_layers())


def test_a_singular_matrix_is_explained_by_the_weakest_signal() -> None:
    network = two_layers(width=50, shift=1.0)
    fired = [np.array([9, 8, 7]), np.array([6, 3, 5])]
    with (
        pytest.raises(
            SingularGramError,
            match=r"^it is flat\. The weakest signal is that of data point 1 in layer 2, where 3 of 50 neurons fire: "
            + re.escape(remedy(network, layer=2, n=3)),
        ) as caught,
        singular_explained(fired, network),
    ):
        raise SingularGramError("it is flat")
    assert str(caught.value.__cause__) == "it is flat"
    with pytest.raises(InputError, match=r"^something else$"), singular_explained(fired, network):
        raise InputError("something else")
    with singular_explained(fired, network):
        pass


def test_the_remedies_are_width_alpha_and_normalized_layers() -> None:
    width = 1024
    network = two_layers(shift=shift_for(width, 0.3), width=width)
    wide, low = wide_enough(0.3, 2, n=9), low_enough(width, 2, n=9)
    assert remedy(network, layer=2, n=9) == (
        f"widen the network (here 1024) to {wide}, or lower alpha (here 0.3) to {low:.2f}, or use normalized=True"
    )
    assert wide is not None
    assert wide > width
    assert low < 0.27


@pytest.mark.parametrize(
    ("layer", "alpha", "offered"),
    [
        pytest.param(2, 0.3, True, id="too weak in layer 2"),
        pytest.param(1, 0.3, False, id="in layer 1: what enters it has length 1 anyway"),
        pytest.param(2, 0.5, False, id="too few would fire in a normalized network too"),
    ],
)
def test_normalized_layers_are_offered_only_where_they_help(layer: int, alpha: float, offered: bool) -> None:
    width = 1024
    network = two_layers(shift=shift_for(width, alpha), width=width)
    assert healthy(width, alpha, 2, normalized=True) == (alpha == 0.3)
    assert ("normalized=True" in remedy(network, layer=layer, n=32)) == offered


def test_errors_tell_the_remedy_where_signals_died_first_and_on_how_many_points() -> None:
    width = 2048
    network = two_layers(shift=shift_for(width, 0.3), width=width)
    ones, fires = np.ones(3), np.array([5, 5, 5])
    for dead_in_first, offered in ((1, False), (0, True)):
        first, second = fires.copy(), fires.copy()
        first[0] -= 5 * dead_in_first
        second[:2] = 0
        with pytest.raises(DeadSignalError) as died:
            check_signals([first, second], [ones, ones], network)
        assert ("normalized=True" in str(died.value)) == offered
        with pytest.raises(SingularGramError) as flat, singular_explained([first, second + dead_in_first], network):
            raise SingularGramError("it is flat")
        assert ("normalized=True" in str(flat.value)) == offered


def test_depth_one_is_not_told_to_normalize() -> None:
    network = MultiLayerNetwork([np.ones((1024, 1))], np.ones(1024), shift_for(1024, 0.5))
    with pytest.raises(DeadSignalError, match=r"to 32768, or lower alpha \(here 0\.5\) to 0\.33$"):
        check_signals([np.array([1, 0])], [np.ones(2)], network)


def test_a_normalized_network_is_not_told_to_normalize() -> None:
    network = two_layers(True, shift=shift_for(128, 0.5), width=128)
    wide = wide_enough(0.5, 2, normalized=True)
    low = low_enough(128, 2, normalized=True)
    assert remedy(network, layer=2, n=32) == (
        f"widen the network (here 128) to {wide}, or lower alpha (here 0.5) to {low:.2f}"
    )


@pytest.mark.parametrize("shift", [0.0, -1.0])
@pytest.mark.parametrize("normalized", [False, True])
def test_without_a_shift_there_is_no_alpha_to_lower(shift: float, normalized: bool) -> None:
    network = two_layers(normalized, shift=shift, width=4)
    assert remedy(network, layer=2, n=32) == "widen the network (here 4) to 32"


@pytest.mark.parametrize("alpha", [0.0099, 0.3])
@pytest.mark.parametrize("width", [8, 16, 32])
def test_alpha_is_not_lowered_to_nothing(width: int, alpha: float) -> None:
    """Up to width 31 too few fire even without a shift; at 32, without one alone."""
    network = two_layers(shift=shift_for(width, alpha), width=width)
    assert low_enough(width, 2) == 0
    assert remedy(network, layer=1, n=32) == f"widen the network (here {width}) to {wide_enough(alpha, 2)}"


def test_advice_always_moves_away_from_where_the_network_is() -> None:
    """Where the law sees no trouble, twice the width and nine tenths of alpha are recommended all the same."""
    network = two_layers(shift=shift_for(2**13, 0.2), width=1 << 13)
    assert healthy(2**13, 0.2, 2)
    advice = remedy(network, layer=1, n=32)
    assert advice.startswith("widen the network (here 8192) to 16384, or lower alpha (here 0.2) to 0.1")


@pytest.mark.parametrize("shift", [3.0, 9.0, 37.0])
@pytest.mark.parametrize("width", [1, 2, 50])
@pytest.mark.parametrize("normalized", [False, True])
def test_there_is_advice_however_far_out(shift: float, width: int, normalized: bool) -> None:
    """Where ``exp`` underflows and ``c_b^2`` does: an error of arithmetic would hide the one to be explained."""
    advice = remedy(two_layers(normalized, shift=shift, width=width), layer=2, n=32)
    low = low_enough(width, 2, normalized=normalized) if width > 1 else 0
    if low > 0:
        assert f"lower alpha (here {shift**2 / (2 * math.log(width)):.3g}) to {low:.2f}" in advice
    assert ("lower alpha" in advice) == (low > 0)
    assert "widen" not in advice or width == 1 or shift_for(width, 1.0) > shift
    assert "normalized=True" not in advice
    assert advice


def test_when_nothing_helps_other_weights_may() -> None:
    assert remedy(two_layers(True, shift=9.0), layer=1, n=32) == "use fewer layers or other weights"


def test_remedies_are_for_the_number_of_data_points() -> None:
    n, width = 10**9, 256
    network = MultiLayerNetwork([np.ones((width, 1))], np.ones(width), shift_for(width, 0.24))
    deep = two_layers(shift=shift_for(512, 0.24), width=512)
    assert "normalized=True" in remedy(deep, layer=2, n=32)
    assert "normalized=True" not in remedy(deep, layer=2, n=n)
    low = low_enough(width, 1, n=n)
    assert 0 < low < min(0.21, low_enough(width, 1))
    assert remedy(network, layer=1, n=n) == (
        f"widen the network (here 256) to 1024, or lower alpha (here 0.24) to {low:.2f}"
    )


def test_alpha_is_lowered_to_nine_tenths_of_it_at_most() -> None:
    width = 10**6
    network = MultiLayerNetwork([np.ones((width, 1))], np.ones(width), shift_for(width, 0.605))
    assert remedy(network, layer=1, n=32) == (
        "widen the network (here 1000000) to 2000000, or lower alpha (here 0.605) to 0.54"
    )
