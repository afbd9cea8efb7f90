"""Answers to reviewers: their claims exist, and the report shows what a run found about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from verify import answers, page
from verify.answers import ANSWERS, Answer
from verify.claims import EXPERIMENTS
from verify.experiment import Claim, Finding, Verdict
from verify.run import Decision, Run

README = (Path(__file__).parents[2] / "README.md").read_text()


def run_with(*found: tuple[str, Verdict]) -> Run:
    claims = tuple(Claim(claim, f"{claim} is so.", "ours") for claim, _ in found)
    findings = tuple(
        Finding(claim, verdict, 1.25, (1.0, 1.5), ">= 1", "n=2", "Reason & more.") for claim, verdict in found
    )
    return Run((Decision("some", "Some", claims, findings, 1.0, 1),), {"profile": "default"})


def all_of(answer: Answer, verdict: Verdict = "holds") -> Run:
    return run_with(*((claim, verdict) for claim in answer.claims))


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.claims[0])
def test_an_answer_rests_on_claims_that_exist(answer: Answer) -> None:
    known = {claim.id for experiment in EXPERIMENTS for claim in experiment.claims}
    assert set(answer.claims) <= known
    assert len(set(answer.claims)) == len(answer.claims)
    assert all(claim.split(".")[0] in answer.command.split()[-1].split(",") for claim in answer.claims)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.claims[0])
def test_the_readme_has_a_row_for_every_question(answer: Answer) -> None:
    claims = ", ".join(f"`{claim}`" for claim in answer.claims)
    row = f"| {answer.question} | {answer.answer} | {claims} | `{answer.command}` |"
    assert row in README.split("## Questions that reviewers asked")[1].splitlines()


def test_new_experiments_answer_something() -> None:
    used = {claim for answer in ANSWERS for claim in answer.claims}
    for name in ("opponents", "sensitivity", "practical_width", "kernel_regression", "unshifted", "solve_cost"):
        (experiment,) = (each for each in EXPERIMENTS if each.name == name)
        assert {claim.id for claim in experiment.claims} <= used


def test_the_report_shows_questions_with_findings() -> None:
    answer = ANSWERS[-1]
    page_text = page.to_html(all_of(answer))
    section = page_text.split('<section id="questions">')[1].split("</section>")[0]
    own = section.split("term go?")[1]
    for claim in answer.claims:
        assert f'<a href="#{claim}">{claim}</a>: 1.25 [1, 1.5], margin ' in own
    assert "with care" not in own
    assert "Not measured" not in own
    assert "python -m verify --claims solve_cost,events" in own
    assert 'href="#questions"' in page_text


@pytest.mark.parametrize("verdict", ["fails", "undecided", "invalid"])
def test_an_answer_without_support_says_so(verdict: Verdict) -> None:
    answer = ANSWERS[-1]
    claims = [(claim, "holds") for claim in answer.claims[1:-1]]
    run = run_with((answer.claims[0], verdict), *claims)  # type: ignore[arg-type]
    found = {finding.claim: finding for finding in run.decisions[0].findings}
    text = answers.block(answer, found)
    assert f"with care: {answer.claims[0]} did not come out" in text
    assert f"Not measured in this run: {answer.claims[-1]}." in text


def test_a_run_without_these_claims_has_no_such_section() -> None:
    assert 'id="questions"' not in page.to_html(run_with(("data.halving", "holds")))
    assert 'id="questions"' not in page.to_html(replace(all_of(ANSWERS[0]), decisions=()))
