"""What changed between two baselines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from verify import benchmarks


def baseline(path: Path, **info: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [{"fullname": name, "extra_info": each} for name, each in info.items()]
    path.write_text(json.dumps({"benchmarks": content}))
    return path


def ratio(estimate: float, half: float) -> dict[str, object]:
    return {"scan": {"estimate": estimate, "low": estimate - half, "high": estimate + half}}


def test_counts_and_ratios_that_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = baseline(
        tmp_path / "old.json",
        query={"m": 64, "shift": 1.5, "nodes": 100, benchmarks.RATIO: ratio(8, 1)},
        build={"nodes": 7, benchmarks.RATIO: ratio(8, 1)},
        gone={"nodes": 1},
    )
    new = baseline(
        tmp_path / "new.json",
        query={"m": 64, "shift": 1.7, "nodes": 120, benchmarks.RATIO: ratio(5, 1)},
        build={"nodes": 7, benchmarks.RATIO: ratio(6.5, 1)},
        more={"nodes": 1},
    )
    assert benchmarks.compare(old, new) == [
        "query, counts, nodes: 100 -> 120 (+20%)",
        "query, times as fast as scan: 8 [7, 9] -> 5 [4, 6]",
    ]
    assert benchmarks.main([str(old), str(new)]) == 1
    assert "2 changes." in capsys.readouterr().out
    assert benchmarks.main([str(old), str(old)]) == 0


def test_a_timed_benchmark_stores_counts_and_the_ratio_to_its_opponent(tmp_path: Path) -> None:
    """A plain run of the tests measures nothing, so this one asks for a single benchmark in a process of its own."""
    file = tmp_path / "baseline.json"
    options = ["--benchmark-enable", "--benchmark-max-time=0", "--benchmark-min-rounds=1", f"--benchmark-json={file}"]
    chosen = ["tests/benchmarks/test_threshold_search.py", "-k", "(query_one or scan_one) and 0.5"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *options]
    # Told that it runs beside others, pytest-benchmark would measure nothing.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, env=alone)
    query, scan = sorted(benchmarks.read(file).items())
    assert "test_query_one" in query[0]
    assert query[1]["nodes_visited"] > 0
    found = query[1][benchmarks.RATIO]["scan"]
    assert 0 < found["low"] <= found["estimate"] <= found["high"]
    assert benchmarks.RATIO not in scan[1]


def test_the_two_newest_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, nodes in enumerate([1, 5, 6], start=1):
        baseline(tmp_path / ".benchmarks" / "machine" / f"000{number}_x.json", query={"nodes": nodes})
    assert benchmarks.main([]) == 1
    assert "nodes: 5 -> 6" in capsys.readouterr().out


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("[]")
    for arguments, message in [
        ([], "holds 0 baseline(s)"),
        (["text.json"], "1 file(s) named; name two"),
        (["text.json", "text.json"], "text.json is no baseline"),
        (["none.json", "none.json"], "none.json is no baseline"),
    ]:
        assert benchmarks.main(arguments) == 2
        assert message in capsys.readouterr().err
