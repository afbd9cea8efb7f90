"""Two runs compared apart from times: what may differ is left out, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from verify import same

CLAIM = {
    "id": "toy.x",
    "statement": "It is so.",
    "source": "ours",
    "verdict": "holds",
    "estimate": 0.5,
    "interval": [0.4, 0.6],
    "margin": "<= 1",
    "domain": "m = 4",
    "seconds": 1.0,
    "reason": "because",
    "timed": False,
}
RESULTS = {
    "claims": [CLAIM, {**CLAIM, "id": "clock.x", "timed": True}],
    "environment": {"code": "abc", "seed": 0, "revision": None, "date": "today", "executor": "processes"},
}


def altered(*place: str | int, value: object = "other") -> dict[str, Any]:
    results = copy.deepcopy(RESULTS)
    inner: Any = results
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return results


def test_equal_runs_are_the_same() -> None:
    assert list(same.differences(RESULTS, copy.deepcopy(RESULTS))) == []


@pytest.mark.parametrize(
    "place",
    [
        ("claims", 0, "seconds"),
        *(("claims", 1, key) for key in ("seconds", *same.TIMED)),
        ("environment", "date"),
        ("environment", "executor"),
    ],
)
def test_times_may_differ(place: tuple[Any, ...]) -> None:
    assert list(same.differences(RESULTS, altered(*place))) == []


@pytest.mark.parametrize(
    "place",
    [
        *(("claims", 0, key) for key in CLAIM if key not in ("seconds", "timed")),
        *(("claims", 1, key) for key in ("id", "statement", "source")),
        *(("environment", key) for key in ("code", "seed", "revision")),
    ],
)
def test_nothing_else_may_differ(place: tuple[Any, ...]) -> None:
    assert list(same.differences(RESULTS, altered(*place)))
    assert list(same.differences(altered(*place), RESULTS))


def test_a_missing_claim_is_a_difference() -> None:
    fewer = {**RESULTS, "claims": [CLAIM]}
    assert any(line.startswith("clock.x") for line in same.differences(RESULTS, fewer))
    assert any(line.startswith("clock.x") for line in same.differences(fewer, RESULTS))


def test_claims_in_another_order_are_a_difference() -> None:
    turned = {**RESULTS, "claims": RESULTS["claims"][::-1]}
    assert list(same.differences(RESULTS, turned)) == ["order of the claims"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"a": RESULTS, "b": altered("environment", "date"), "c": altered("claims", 0, "verdict")}
    for name, results in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert same.main([a, b]) == 0
    assert capsys.readouterr().out == "the same, apart from times\n"
    assert same.main([a, c]) == 1
    assert capsys.readouterr().out == 'toy.x verdict: "holds", and "other"\n'
    assert same.main([a, str(tmp_path)]) == 2
    assert "name two output folders" in capsys.readouterr().err
    (tmp_path / "b" / "results.json").write_text("[]")
    assert same.main([a, b]) == 2
    assert same.main([a]) == 2
    assert "usage" in capsys.readouterr().err
