"""Imports point one way, and the names that scripts outside the repository use are there."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED_IN_FAST = {"numpy", "scipy", "reference", "fast"}
VOCABULARY = {
    "reference.notation": None,  # all of it
    "reference.trace": None,
    "reference.two_layer": {"TwoLayerNetwork", "initialize", "shift_for"},
    "reference.output_layer": {"JointNetwork"},
    "reference.sketch": {
        "Draw",
        "GaussianDraw",
        "SRHTDraw",
        "SparseEmbeddingDraw",
        "TensorSRHTDraw",
        "TensorSketchDraw",
        "draw_tensor_sketch",
    },
    "reference.multi_layer": {
        "MultiLayerNetwork",
        "initialize",
        "check_growth",
        "check_layers",
        "check_network",
        "check_reach",
        "ran_away",
    },
    "reference.signals": None,  # the law of signals, and what to say when they died
    "reference.safeguard": None,  # decisions from residual norms alone, the same on both sides
    "reference.shifted_ntk": {"check_unit_rows"},
    "reference.regression": {
        "Solution",
        "check_accuracy",
        "check_progress",
        "check_sketched",
        "check_system",
        "condition_limit",
        "rounding_floor",
        "singular_gram",
    },
}


def imports(path: Path) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(str(node.module), alias.name) for alias in node.names]
    return found


def third_party(module: str) -> bool:
    return module.split(".")[0] not in sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted(ROOT.glob("reference/*.py")), ids=lambda path: path.name)
def test_reference_needs_numpy_alone(path: Path) -> None:
    for module, _ in imports(path):
        assert not third_party(module) or module.split(".")[0] in {"numpy", "reference"}, module


@pytest.mark.parametrize("path", sorted(ROOT.glob("fast/*.py")), ids=lambda path: path.name)
def test_fast_takes_only_vocabulary_from_reference(path: Path) -> None:
    for module, name in imports(path):
        if third_party(module):
            assert module.split(".")[0] in ALLOWED_IN_FAST, module
        if module.startswith("reference"):
            vocabulary = VOCABULARY.get(module, set())
            assert vocabulary is None or name in vocabulary, f"{module}.{name} is not vocabulary"


@pytest.mark.parametrize("path", sorted(ROOT.glob("verify/**/*.py")), ids=lambda path: path.name)
def test_nothing_imports_tests(path: Path) -> None:
    assert not [module for module, _ in imports(path) if module.split(".")[0] == "tests"]


def test_contract_names() -> None:
    import fast.gauss_newton
    import fast.gram
    import fast.lazy_width
    import fast.multi_layer_gauss_newton
    import fast.shifted_ntk
    import fast.threshold_search
    import reference.gauss_newton
    import reference.gram
    import reference.jacobian
    import reference.multi_layer
    import reference.multi_layer_gauss_newton
    import reference.shifted_ntk
    import reference.trace
    import reference.two_layer

    def arguments(routine: object) -> list[str]:
        return list(inspect.signature(routine).parameters)  # type: ignore[arg-type]

    assert arguments(reference.two_layer.TwoLayerNetwork) == ["weights", "signs", "shift"]
    assert arguments(reference.two_layer.initialize) == ["width", "dim", "shift", "rng"]
    assert arguments(reference.two_layer.shift_for) == ["width", "alpha"]
    for routine in (
        reference.two_layer.preactivations,
        reference.two_layer.activation_pattern,
        reference.jacobian.jacobian,
        reference.gram.gram,
        fast.gram.gram,
    ):
        assert arguments(routine) == ["network", "X"]
    for routine in (reference.shifted_ntk.shifted_ntk, fast.shifted_ntk.shifted_ntk):
        assert arguments(routine) == ["X", "shift"]
    common = ["network", "X", "y", "iterations", "tolerance"]
    assert arguments(reference.gauss_newton.train) == [*common, "step"]
    assert arguments(fast.gauss_newton.train)[:9] == [*common, "search", "solver", "rng", "step"]
    assert inspect.signature(fast.gauss_newton.train).parameters["search"].default == "events"
    assert arguments(fast.lazy_width.initialize) == ["X", "width", "shift", "rng", "unseen"]
    forest = fast.threshold_search.ThresholdForest
    assert arguments(forest.build) == ["scores"]
    assert arguments(forest.query) == ["self", "threshold"]
    assert arguments(forest.query_one) == ["self", "i", "threshold"]
    assert arguments(forest.update) == ["self", "neurons", "scores"]
    deep = reference.multi_layer
    assert arguments(deep.MultiLayerNetwork) == ["weights", "signs", "shift", "normalized"]
    assert arguments(deep.initialize) == ["width", "dim", "depth", "shift", "rng", "normalized"]
    trained = ["network", "X", "y", "trained_layers", "iterations", "tolerance"]
    assert arguments(reference.multi_layer_gauss_newton.train) == [*trained, "step"]
    assert arguments(fast.multi_layer_gauss_newton.train)[:8] == [*trained, "solver", "rng"]
    fields = {"stopped", "network", "residual_norms", "predictions", "converged", "counts"}
    assert fields <= set(reference.trace.Trace.__dataclass_fields__)
