"""The committed counts, and the command that compares and writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fast.gauss_newton
from fast.jacobian import FiredJacobian
from fast.threshold_search import ThresholdForest
from reference.notation import FloatArray, InputError, IntArray
from reference.two_layer import TwoLayerNetwork
from verify import counts, loops
from verify.loops import LOOPS, Counts, Setting

EVENTS = next(loop for loop in LOOPS if loop.name == "events")
FOREST = next(loop for loop in LOOPS if loop.name == "forest")


def committed(*names: str) -> dict[str, dict[str, Counts]]:
    return {key: steps for key, steps in counts.committed().items() if key.split()[0] in names}


def test_counts_are_the_committed_ones() -> None:
    changed = counts.changes(counts.committed(), counts.measure())
    assert not changed, "\n".join([f"{len(changed)} counts changed:", *changed, counts.REMEDY])


def test_every_loop_is_counted_and_repeats_itself() -> None:
    assert [key.split()[0] for key in counts.committed()] == [loop.name for loop in LOOPS]
    for loop in LOOPS:
        steps = loop.prepare(import_module, loop.small)
        first, second = ([act() for _, act in steps] for _ in range(2))
        assert first == second, loop.name
        assert any(sum(each.values()) for each in first), loop.name


def test_what_is_left_out_is_counted_by_the_code_and_missing_in_the_file() -> None:
    for loop in LOOPS:
        counted = {name for _, act in loop.prepare(import_module, loop.small) for name in act()}
        left_out = set(counts.LEFT_OUT.get(loop.name, {}))
        assert left_out <= counted
        kept = {name for steps in committed(loop.name).values() for each in steps.values() for name in each}
        assert not left_out & kept
    assert set(counts.LEFT_OUT) <= {loop.name for loop in LOOPS}


def test_counts_do_not_hang_on_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that differ by a thousand roundings, as no two machines do, make the same counts."""
    draw = loops.two_layer.initialize

    def disturbed(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
        network = draw(width, dim, shift=shift, rng=rng)
        noise: FloatArray = 1 + 1e-13 * np.random.default_rng(1).standard_normal(network.weights.shape)
        return TwoLayerNetwork(network.weights * noise, network.signs, shift)

    monkeypatch.setattr(loops.two_layer, "initialize", disturbed)
    assert counts.changes(counts.committed(), counts.measure()) == []


# ---- planted faults


def test_one_more_multiply_add_is_caught_with_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_counts = fast.gauss_newton.shared_counts

    def more(jacobian: FiredJacobian) -> tuple[FloatArray, int]:
        shared, work = shared_counts(jacobian)
        return shared, work + 1

    monkeypatch.setattr(fast.gauss_newton, "shared_counts", more)
    tree = next(loop for loop in LOOPS if loop.name == "tree")
    changed = counts.changes(committed("tree"), counts.measure([tree]))
    assert [line.split(": ")[0].split(", ", 1)[1] for line in changed] == [
        f"iteration {number}, gram" for number in (1, 2, 3)
    ]
    was = committed("tree")[f"tree {tree.small}"]["iteration 1"]["gram"]
    assert changed[0].endswith(f"gram: {was} -> {was + 1} (+{100 / was:.3g}%)")


def test_a_band_that_watches_more_pairs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    band = fast.gauss_newton.first_band
    monkeypatch.setattr(fast.gauss_newton, "first_band", lambda *given: 1.1 * band(*given))
    changed = counts.changes(committed("events"), counts.measure([EVENTS]))
    assert any(", start, watched: " in line and "(+" in line for line in changed)


def test_a_query_that_looks_everywhere_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    query = ThresholdForest.query

    def scan(forest: ThresholdForest, threshold: float) -> tuple[IntArray, IntArray]:
        forest.nodes_visited["query"] += forest.levels[0].size
        return query(forest, threshold)

    monkeypatch.setattr(ThresholdForest, "query", scan)
    [line] = counts.changes(committed("forest"), counts.measure([FOREST]))
    assert ", query, nodes: " in line


def test_counts_that_come_and_go_are_changes() -> None:
    one, other = {"a": {"start": {"x": 0}}}, {"a": {"start": {"x": 5, "y": 1}}, "b": {"start": {"x": 2}}}
    assert counts.changes(one, one) == []
    assert counts.changes(one, other) == [
        "a, start, x: 0 -> 5",
        "a, start, y: not counted -> 1",
        "b, start, x: not counted -> 2",
    ]
    assert counts.changes({"a": {"start": {"x": 8}}}, {}) == ["a, start, x: 8 -> not counted"]
    assert counts.changes({"a": {"s": {"x": 8}}}, {"a": {"s": {"x": 6}}}) == ["a, s, x: 8 -> 6 (-25%)"]


# ---- the command


@pytest.fixture
def one_loop(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the command measure one loop only."""
    small = replace(FOREST, small=Setting(64, 4, 4))
    measured = counts.measure([small])
    monkeypatch.setattr(counts, "measure", lambda: measured)
    return f"forest {small.small}"


def test_write_then_compare(tmp_path: Path, one_loop: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "counts.json"
    assert counts.main([], path=path) == 2
    assert "python -m verify.counts --write" in capsys.readouterr().err
    assert not path.exists()
    assert counts.main(["--write"], path=path) == 0
    assert counts.main([], path=path) == 0
    assert "All 5 counts are as committed" in capsys.readouterr().out
    table = json.loads(path.read_text())
    table[one_loop]["build"]["nodes"] -= 1
    text = json.dumps(table)
    path.write_text(text)
    assert counts.main([], path=path) == 1
    printed = capsys.readouterr().out
    assert f"{one_loop}, build, nodes: " in printed
    assert "1 of 5 counts changed" in printed
    assert "say in the message why" in printed
    assert path.read_text() == text  # only --write writes
    assert counts.main(["--write"], path=path) == 0
    assert "5 counts, 1 changed" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["counts.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"b": 1}}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"make it with python -m verify\.counts --write"):
        counts.committed(path)


def test_the_command_itself() -> None:
    done = subprocess.run([sys.executable, "-m", "verify.counts"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "counts are as committed" in done.stdout
