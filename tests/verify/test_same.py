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
}
RESULTS = {
    "claims": [CLAIM, {**CLAIM, "id": "clock.x"}],
    "environment": {"code": "abc", "seed": 0, "revision": None, "date": "today", "executor": "processes"},
}


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return list(same.differences(first, second, timed={"clock"}))


def altered(*place: str | int, value: object = "other") -> dict[str, Any]:
    results = copy.deepcopy(RESULTS)
    inner: Any = results
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return results


def test_equal_runs_are_the_same() -> None:
    assert differences(RESULTS, copy.deepcopy(RESULTS)) == []


@pytest.mark.parametrize(
    "place",
    [
        ("claims", 0, "seconds"),
        *(("claims", 1, key) for key in ("seconds", *same.BY_CLOCK)),
        ("environment", "date"),
        ("environment", "executor"),
    ],
)
def test_times_may_differ(place: tuple[Any, ...]) -> None:
    assert differences(RESULTS, altered(*place)) == []


@pytest.mark.parametrize(
    "place",
    [
        *(("claims", 0, key) for key in CLAIM if key != "seconds"),
        *(("claims", 1, key) for key in ("id", "statement", "source")),
        *(("environment", key) for key in ("code", "seed", "revision")),
    ],
)
def test_nothing_else_may_differ(place: tuple[Any, ...]) -> None:
    assert differences(RESULTS, altered(*place))
    assert differences(altered(*place), RESULTS)


def test_a_missing_claim_is_a_difference() -> None:
    fewer = {**RESULTS, "claims": [CLAIM]}
    assert any(line.startswith("clock.x") for line in differences(RESULTS, fewer))
    assert any(line.startswith("clock.x") for line in differences(fewer, RESULTS))


def test_claims_in_another_order_are_a_difference() -> None:
    turned = {**RESULTS, "claims": RESULTS["claims"][::-1]}
    assert differences(RESULTS, turned) == ["order of the claims"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default it knows which of the project's own experiments look at a clock."""
    claims = [{**CLAIM, "id": name} for name in ("sparsity.level", "time.paper", "data.halving")]
    runs = {"a": claims, "b": copy.deepcopy(claims), "c": copy.deepcopy(claims)}
    for claim in runs["b"][1:]:
        claim["estimate"] = 2.0
    runs["c"][0]["estimate"] = 2.0
    for name, claims in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({**RESULTS, "claims": claims}))
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert same.main([a, b]) == 0
    assert capsys.readouterr().out == "the same, apart from times\n"
    assert same.main([a, c]) == 1
    assert capsys.readouterr().out == "sparsity.level estimate: 0.5, and 2.0\n"
    assert same.main([a, str(tmp_path)]) == 2
    assert "name two output folders" in capsys.readouterr().err
    (tmp_path / "b" / "results.json").write_text("[]")
    assert same.main([a, b]) == 2
    assert same.main([a]) == 2
    assert "usage" in capsys.readouterr().err
