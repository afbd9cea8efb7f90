"""The three forms of a run: strict JSON, a table for the terminal, a page that is safe and repeatable."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from verify import plots, report
from verify.experiment import Claim, Experiment, Finding
from verify.run import VERDICTS, Decision, Run

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
    page = Page(report.to_html(RUN))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "image"}
    assert NASTY in page.text, "shown as text, not obeyed"
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href", "src"):
                assert value.startswith("#"), (tag, value)
    assert "http" not in report.CSS
    assert "url(" not in report.CSS
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert targets <= set(identities)


def test_two_plots_on_one_page_share_no_names() -> None:
    page = report.to_html(Run((decision(), decision("two")), {}))
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(identities) == len(set(identities))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(identities)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identities)


def test_rendering_twice_gives_the_same_bytes_whatever_the_readers_settings(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    first = report.to_html(RUN)
    with mpl.rc_context({"font.size": 33, "axes.facecolor": "red", "axes.linewidth": 7}):
        assert report.to_html(RUN) == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert report.to_html(RUN) == first
    assert not re.search(r"20\d\d-\d\d-\d\d", first)


def test_verdicts_differ_by_word_and_sign() -> None:
    assert len(set(report.SIGN.values())) == 4
    page = report.to_html(RUN)
    for verdict in VERDICTS:
        assert f"{report.SIGN[verdict]}</span> {verdict}<" in page


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
    for name in set(re.findall(r"var\(--([a-z0-9-]+)", svg + report.CSS)):
        assert report.CSS.count(f"--{name}: ") == 2, f"--{name} needs a light and a dark value"


def test_interval_bars() -> None:
    def bars(figure: Figure) -> None:
        measured = [(1.0, 0.5, 1.5), (2.0, 1.5, 2.5)]
        plots.interval_bars(figure.subplots(), ["one", "two"], measured, margin=(None, 2))

    assert ">two</text>" in plots.render(bars, "bars", "bars")


def test_a_plot_that_fails_is_a_sentence() -> None:
    def fails(figure: Figure) -> None:
        raise ZeroDivisionError(NASTY)

    page = report.to_html(Run((decision(draw=fails),), {}))
    assert "could not be drawn (ZeroDivisionError: &lt;script&gt;" in page
    assert "<svg" not in report.to_html(Run((decision(draw=None),), {}))


def test_page_says_what_was_not_tested() -> None:
    def nothing(*_: object) -> list[object]:
        return []

    other = Experiment("other", "Other", (Claim("other.claim", "s", "ours"),), nothing, nothing, nothing)
    page = report.to_html(RUN, known=[other])
    assert "What was not tested" in page
    assert "Claims left out of this run: other.claim." in page
    assert "--thorough measures more" in page
    thorough = replace(RUN, environment={"profile": "thorough"})
    assert "--thorough measures more" not in report.to_html(thorough)


def test_a_shared_domain_is_said_once_and_others_by_claim() -> None:
    assert report.to_html(RUN).count("Domain: n=4") == 1
    findings = RUN.decisions[0].findings
    mixed = decision(findings=(replace(findings[0], domain="n=8"), *findings[1:]))
    page = report.to_html(Run((mixed,), {}))
    assert (page.count("Domain: n=8"), page.count("Domain: n=4")) == (1, 2)


def test_text_evidence_is_shown_as_it_stands() -> None:
    page = Page(report.to_html(Run((decision(text=f"residual  1.0\n  {NASTY}"),), {})))
    assert f"residual  1.0\n  {NASTY}" in page.text


def test_environment_shows_zero_and_omits_nothing_else() -> None:
    page = report.to_html(RUN)
    assert "<dt>seed</dt><dd>0</dd>" in page
    assert "<dt>revision</dt>" not in page
