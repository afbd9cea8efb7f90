"""Two forms of a run: strict JSON, and a table for the terminal. The page is in test_page.py."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from verify import report
from verify.experiment import Claim, Experiment, Finding
from verify.run import VERDICTS, Decision, Run

NASTY = "<script>alert('&\"')</script>"


def decision(name: str = "toy", **change: object) -> Decision:
    findings = (
        Finding(f"{name}.level", "holds", 0.00123456, (-0.01, 0.02), "within +-0.02 of 0", "n=4", "close"),
        Finding(f"{name}.bound", "fails", 12.0, (11.0, None), "<= 5", "n=4", "far above"),
        Finding(f"{name}.open", "undecided", 0.5, (None, 1.5), "<= 1", "n=4", "too few seeds"),
        Finding(f"{name}.lost", "invalid", None, None, "", "", f"a cell raised {NASTY}"),
    )
    claims = tuple(
        Claim(each.claim, f"Statement {NASTY} of {each.claim}, long enough for a second line.", "ours")
        for each in findings
    )
    return replace(Decision(name, f"Title {NASTY}", claims, findings, 1.23456, 6), **change)


RUN = Run((decision(),), {"python": "3", "seed": 0, "revision": None, "profile": "default"}, measured=6)


def test_json_has_the_contracts_fields_and_no_others() -> None:
    content = json.loads(report.to_json(RUN, date="today"), parse_constant=pytest.fail)
    assert set(content) == {"claims", "environment"}
    contract = "id, statement, source, verdict, estimate, interval, margin, domain, seconds, reason"
    assert [", ".join(claim) for claim in content["claims"]] == [contract] * 4
    assert [claim["verdict"] for claim in content["claims"]] == list(VERDICTS)
    intervals = [claim["interval"] for claim in content["claims"]]
    assert intervals == [[-0.01, 0.02], [11.0, None], [None, 1.5], None]
    assert content["claims"][0]["estimate"] == 0.00123456
    assert content["environment"] == {**RUN.environment, "date": "today"}


def test_summary_and_success() -> None:
    assert report.summary(RUN) == "Of 4 claims, 1 holds, 1 fails, 1 is undecided, 1 is invalid."
    assert report.summary(Run((decision(), decision("two")), {})).startswith("Of 8 claims, 2 hold, 2 fail,")
    assert report.summary(Run((), {})) == "Of 0 claims, none was decided."
    for position, good in enumerate([True, False, True, False]):
        part = replace(
            RUN.decisions[0],
            claims=RUN.decisions[0].claims[position : position + 1],
            findings=RUN.decisions[0].findings[position : position + 1],
        )
        assert report.succeeded(Run((part,), {})) is good


def test_terminal_table_has_a_line_per_claim_and_wraps() -> None:
    text = report.to_text(RUN, width=60)
    lines = text.splitlines()
    assert " ".join(lines[0].split()) == "holds toy.level 0.001235 [-0.01, 0.02]"
    assert lines[1].strip() == "margin: within +-0.02 of 0"
    assert "12 [11, inf]" in text
    assert "0.5 [-inf, 1.5]" in text
    assert "Why: far above" in text
    assert "Why: close" not in text, "a claim that holds needs no excuse"
    assert lines[-1] == report.summary(RUN)
    assert report.to_text(RUN, width=100).splitlines()[0].endswith("margin: within +-0.02 of 0")
    assert max(len(line) for line in lines if line.startswith(" ")) <= 60
    assert "\x1b" not in text
    assert "\x1b[1;31mfails" in report.to_text(RUN, colour=True)


def test_list_of_claims() -> None:
    def nothing(*_: object) -> list[object]:
        return []

    experiment = Experiment("toy", "A toy", RUN.decisions[0].claims, nothing, nothing, nothing)
    listed = report.list_claims([experiment])
    assert "toy: A toy" in listed
    assert "Source: ours." in listed
    assert all(claim.id in listed for claim in experiment.claims)
