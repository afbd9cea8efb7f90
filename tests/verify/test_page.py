"""The report: valid, safe, complete, and the same bytes whenever it is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from verify import forest_figure, page, page_faults, page_style, plots
from verify.claims import EXPERIMENTS
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.run import VERDICTS, Decision, Run, caption, run, workforce

NASTY = "<script>alert('&\"')</script>"


def draw(figure: Figure) -> None:
    axes = figure.subplots()
    plots.log_log(axes, x="width m", y="fired neurons", title="a < b & c")
    widths = 2.0 ** np.arange(4, 10)
    axes.plot(widths, widths**0.7, label="measured")
    axes.fill_between(widths, widths**0.6, widths**0.8, alpha=0.2, color="black")
    plots.law(axes, widths, widths**0.75, "law")
    axes.legend()


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
    return replace(Decision(name, f"Title {NASTY}", claims, findings, 1.23456, 6, draw), **change)


RUN = Run((decision(),), {"python": "3", "seed": 0, "revision": None, "profile": "default"}, measured=6)


class Page(HTMLParser):
    """Collects tags, attributes and text; complains when tags do not nest."""

    EMPTY = frozenset({"meta", "br", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_nests_escapes_and_needs_nothing_from_elsewhere() -> None:
    shown = Page(page.to_html(RUN))
    tags = {tag for tag, _ in shown.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "image"}
    assert NASTY in shown.text, "shown as text, not obeyed"
    for tag, attributes in shown.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href", "src"):
                assert value.startswith("#"), (tag, value)
    assert "http" not in page_style.CSS
    assert "url(" not in page_style.CSS
    identities = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {attributes["href"][1:] for tag, attributes in shown.tags if tag == "a"}
    assert targets <= set(identities)


def test_two_plots_on_one_page_share_no_names() -> None:
    shown = page.to_html(Run((decision(), decision("two")), {}))
    identities = re.findall(r'\bid="([^"]+)"', shown)
    assert len(identities) == len(set(identities))
    assert set(re.findall(r"url\(#([^)]+)\)", shown)) <= set(identities)
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(identities)


def test_rendering_twice_gives_the_same_bytes_whatever_the_readers_settings(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    first = page.to_html(RUN)
    with mpl.rc_context({"font.size": 33, "axes.facecolor": "red", "axes.linewidth": 7}):
        assert page.to_html(RUN) == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert page.to_html(RUN) == first
    assert not re.search(r"20\d\d-\d\d-\d\d", first)


def test_verdicts_differ_by_word_and_sign() -> None:
    assert len(set(page_style.SIGN.values())) == 4
    shown = page.to_html(RUN)
    for verdict in VERDICTS:
        assert f"{page_style.SIGN[verdict]}</span> {verdict}<" in shown


def test_plot_follows_light_and_dark() -> None:
    svg = plots.render(draw, "toy", "x < y")
    assert f"fill: var(--ink, {plots.INK})" in svg
    assert f"stroke: var(--series-1, {plots.SERIES[0]})" in svg
    assert f"stroke: var(--muted, {plots.MUTED})" in svg
    assert "var(--series-2, #ff7f0e)" in plots.render(
        lambda figure: figure.subplots().plot([1, 2], color="tab:orange"), "x", "x"
    )
    assert 'aria-label="x &lt; y"' in svg
    assert "<metadata" not in svg
    for name in set(re.findall(r"var\(--([a-z0-9-]+)", svg + page_style.CSS)):
        assert page_style.CSS.count(f"--{name}: ") == 2, f"--{name} needs a light and a dark value"


def test_interval_bars() -> None:
    def bars(figure: Figure) -> None:
        measured = [(1.0, 0.5, 1.5), (2.0, 1.5, 2.5)]
        plots.interval_bars(figure.subplots(), ["one", "two"], measured, margin=(None, 2))

    assert ">two</text>" in plots.render(bars, "bars", "bars")


def test_a_plot_that_fails_is_a_sentence() -> None:
    def fails(figure: Figure) -> None:
        raise ZeroDivisionError(NASTY)

    shown = page.to_html(Run((decision(draw=fails),), {}))
    assert "could not be drawn (ZeroDivisionError: &lt;script&gt;" in shown
    assert "<svg" not in page.to_html(Run((decision(draw=None),), {}))


def test_workers_draw_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Run(tuple(decision(name, draw=forest_figure.draw) for name in ("one", "two", "three")), {})
    workers: list[int] = []

    def counted(number: int) -> AbstractContextManager[Executor]:
        workers.append(number)
        return workforce(number)

    monkeypatch.setattr(page, "workforce", counted)
    alone = page.to_html(shown, jobs=2)
    monkeypatch.setattr(page, "WORTH_A_WORKER", 1)
    assert page.to_html(shown, jobs=2) == alone
    assert workers == [2]


def test_a_worker_that_dies_costs_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "WORTH_A_WORKER", 1)
    shown = Run((decision(), decision("two")), {})

    @contextmanager
    def dying(workers: int) -> Iterator[Executor]:
        raise BrokenExecutor
        yield

    alone = page.to_html(shown)
    monkeypatch.setattr(page, "workforce", dying)
    assert page.to_html(shown, jobs=2) == alone


def test_page_says_what_was_not_tested() -> None:
    def nothing(*_: object) -> list[object]:
        return []

    other = Experiment("other", "Other", (Claim("other.claim", "s", "ours"),), nothing, nothing, nothing)
    shown = page.to_html(RUN, known=[other])
    assert "What was not tested" in shown
    assert "Claims left out of this run: all of other." in shown
    part = replace(other, claims=(*other.claims, RUN.decisions[0].claims[0]))
    assert "Claims left out of this run: other.claim." in page.to_html(RUN, known=[part])
    assert "--thorough measures more" in shown
    thorough = replace(RUN, environment={"profile": "thorough"})
    assert "--thorough measures more" not in page.to_html(thorough)


def test_a_shared_domain_is_said_once_and_others_by_claim() -> None:
    assert page.to_html(RUN).count("Domain: n=4") == 1
    findings = RUN.decisions[0].findings
    mixed = decision(findings=(replace(findings[0], domain="n=8"), *findings[1:]))
    shown = page.to_html(Run((mixed,), {}))
    assert (shown.count("Domain: n=8"), shown.count("Domain: n=4")) == (1, 2)


def test_text_evidence_is_shown_as_it_stands() -> None:
    shown = Page(page.to_html(Run((decision(text=f"residual  1.0\n  {NASTY}"),), {})))
    assert f"residual  1.0\n  {NASTY}" in shown.text


def test_environment_shows_zero_and_omits_nothing_else() -> None:
    shown = page.to_html(RUN)
    assert "<dt>seed</dt><dd>0</dd>" in shown
    assert "<dt>revision</dt>" not in shown


def test_the_document_is_in_order_for_those_who_hear_it() -> None:
    shown = Page(page.to_html(Run((decision(), decision("search")), {}), faults=FAULTS))
    headings = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all("scope" in attributes for tag, attributes in shown.tags if tag == "th")
    pictures = [attributes for tag, attributes in shown.tags if tag == "svg"]
    assert len(pictures) == 3, "a plot for each experiment, and the forest"
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    assert [tag for tag, _ in shown.tags].count("figcaption") == 3
    assert dict(shown.tags)["html"] == {"lang": "en"}


def test_every_row_has_a_cell_for_every_column() -> None:
    shown = page.to_html(Run((decision(), decision("two")), {}), known=[experiment()], faults=FAULTS)
    tables = re.findall(r"<table.*?</table>", shown, re.DOTALL)
    assert len(tables) == 1 + 2 + 1
    for table in tables:
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        widths = {
            sum(int((re.search(r'colspan="(\d+)"', cell) or [0, 1])[1]) for cell in re.findall(r"<t[hd]\b[^>]*>", row))
            for row in rows
        }
        assert len(widths) == 1, table


def test_what_does_not_hold_comes_first_and_says_why() -> None:
    good = replace(RUN.decisions[0].findings[0], claim="good.level")
    fine = Decision("good", "Good", (Claim("good.level", "It is good.", "ours"),), (good,), 1.0, 1)
    shown = page.to_html(Run((fine, decision()), {}))
    contents, verdicts = shown.index("<nav"), shown.index('class="verdicts"')
    for start in (contents, verdicts):
        assert shown.index('href="#toy"', start) < shown.index('href="#good"', start)
    assert shown.count('<li class="flagged"><a href="#toy">') == 1
    assert "Why: far above" in shown
    assert "Why: close" not in shown
    # The evidence keeps the order of the experiments.
    assert shown.index('<section id="good">') < shown.index('<section id="toy">')


def test_each_experiment_says_what_it_cost_and_how_to_repeat_it() -> None:
    shown = page.to_html(replace(RUN, environment={"seed": 7, "profile": "thorough"}))
    assert "6 cells, 1.2 s of measurement" in shown
    assert "<code>python -m verify --claims toy --seed 7 --thorough</code>" in shown
    own = page.to_html(Run((decision(command="python -m verify --data 'my file.csv'"),), {}))
    assert "python -m verify --data &#x27;my file.csv&#x27;" in own
    assert "--claims toy" not in own


def test_captions_come_from_the_plots() -> None:
    assert "<figcaption>This and <code>that</code>.</figcaption>" in page.to_html(
        Run((decision(caption="This and ``that``."),), {})
    )
    for each in EXPERIMENTS:
        if each.plot is not None:
            assert len(caption(each.plot)) > 20, each.name
            assert caption(each.plot).endswith("."), each.name
    assert {each.name for each in EXPERIMENTS if each.plot is None} == set()
    assert caption(lambda: None) == ""


def test_no_experiment_takes_the_name_of_a_part_of_the_page() -> None:
    parts = set(re.findall(r'<section id="([^"]+)">\n<h2>', page.to_html(RUN)))
    assert {"verdicts", "evidence", "faults", "not-tested", "environment"} <= parts
    assert not parts & {each.name for each in EXPERIMENTS}


# ---- from stored cells


def cells(profile: Profile) -> list[Inputs]:
    return [{"seed": seed} for seed in range(3)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    return {"value": float(rng.random())}


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    mean = float(np.mean([result["value"] for _, result in results]))
    return [Finding(f"toy.{part}", "holds", mean, (0.0, 1.0), "in [0, 1]", "", "a mean") for part in ("level", "bound")]


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the values."""
    figure.subplots().plot([result["value"] for _, result in results], "o")


def experiment() -> Experiment:
    claims = tuple(Claim(f"toy.{part}", "A mean lies in [0, 1].", "ours") for part in ("level", "bound"))
    return Experiment("toy", "A toy", claims, cells, measure, decide, plot)


def test_rendering_from_stored_cells_gives_the_same_bytes(tmp_path: Path) -> None:
    first = run([experiment()], out=tmp_path, jobs=0)
    second = run([experiment()], out=tmp_path, jobs=0)
    assert (first.measured, second.measured) == (3, 0)
    shown = page.to_html(first)
    assert page.to_html(second) == shown
    assert "3 cells were measured" in shown
    assert "No stored cell had to be measured again." in shown
    assert "<figcaption>The values.</figcaption>" in shown


def test_a_damaged_cell_stays_on_record(tmp_path: Path) -> None:
    run([experiment()], out=tmp_path, jobs=0)
    victim = next((tmp_path / "cells" / "toy").glob("*.json"))
    victim.write_text("{")
    second = run([experiment()], out=tmp_path, jobs=0)
    third = run([experiment()], out=tmp_path, jobs=0)
    assert (len(second.corrupt), len(third.corrupt)) == (1, 0)
    assert "1 stored cell was damaged, set aside and measured again." in page.to_html(second)
    assert victim.with_suffix(".corrupt").read_text() == "{"
    # The time of the new measurement is that of its stored cell, so the third page is the second's.
    assert page.to_html(third) == page.to_html(second)


def test_a_folder_in_the_place_of_a_cell_is_set_aside_too(tmp_path: Path) -> None:
    run([experiment()], out=tmp_path, jobs=0)
    victim = next((tmp_path / "cells" / "toy").glob("*.json"))
    victim.unlink()
    victim.mkdir()
    assert run([experiment()], out=tmp_path, jobs=0).measured == 1
    assert run([experiment()], out=tmp_path, jobs=0).reused == 3


# ---- the kill matrix


def planted(identity: str, found: str, outcome: str = "caught", **others: str) -> dict[str, object]:
    return {
        "id": identity,
        "description": f"Something {NASTY} is wrong.",
        "kind": "value",
        "outcome": outcome,
        "reason": "" if outcome == "caught" else f"toy.level {found}",
        "claims": [{"id": "toy.level", "expected": "fails", "found": found, "true_code": "holds", "reason": "x"}],
        "others": {f"toy.{part}": verdict for part, verdict in others.items()},
    }


FAULTS = {
    "faults": [planted("drop", "fails", bound="invalid"), planted("hide", "holds", "survives")],
    "environment": {"code": "abc"},
}


def kill_matrix(content: object, code: str = "abc") -> str:
    return page_faults.to_html(content, [experiment()], {"code": code})


def test_without_faults_the_page_says_how_to_plant_them() -> None:
    assert "python -m verify --faults" in kill_matrix(None)
    assert "<table" not in kill_matrix(None)


def test_kill_matrix_shows_who_caught_what_and_what_got_through_first() -> None:
    text = kill_matrix(FAULTS)
    assert "Of 2 planted faults, 1 caught, 1 survives." in text
    assert text.index("<b>hide</b> survives") < text.index("<table")
    assert NASTY not in text
    rows = re.findall(r"<tr><th scope=.row.>.*?</tr>", text)
    assert [re.findall(r'<td class="([^"]*)"', row) for row in rows] == [["due fails", "invalid"], ["due holds"]]
    assert "holds instead of fails" in rows[1]
    assert "Claims that no fault was seen to flip: toy.bound." in text
    assert "no fault was planted for" not in text
    assert "another version" not in text


def test_kill_matrix_praises_only_what_is_caught_entirely_and_by_this_code() -> None:
    caught = {**FAULTS, "faults": FAULTS["faults"][:1]}
    assert "all are caught by the verdicts foretold" in kill_matrix(caught)
    assert "planted in another version of the code (abc)" in kill_matrix(caught, code="def")


def test_kill_matrix_names_the_experiments_that_were_spared() -> None:
    other = replace(experiment(), title="Another", claims=(Claim("other.claim", "s", "ours"),))
    text = page_faults.to_html(FAULTS, [experiment(), other], {"code": "abc"})
    assert "Experiments that no fault was planted for: Another." in text
    assert "other.claim" not in text


@pytest.mark.parametrize("content", [[], {}, {"faults": [{}], "environment": {}}, {"faults": 3}, "x"], ids=str)
def test_a_file_that_is_no_kill_matrix_is_a_sentence(content: object) -> None:
    assert "faults.json is not as" in kill_matrix(content)


def test_a_verdict_that_is_none_never_reaches_the_page() -> None:
    strange = {**FAULTS, "faults": [planted("drop", f'"{NASTY}')]}
    assert NASTY not in kill_matrix(strange)
