"""What the README shows is what a reader gets."""

from __future__ import annotations

import doctest
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from verify import forest_figure, plots, readme, source
from verify.__main__ import main
from verify.claims import EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_print_what_they_show() -> None:
    session = "\n".join(blocks("python"))
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", "README.md", 0)
    failures: list[str] = []
    doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("block", [block for block in blocks("console") if "digits" in block])
def test_a_digits_block_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: str
) -> None:
    command, *expected = block.rstrip().splitlines()
    arguments = command.removeprefix("$ python -m verify ").split()
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert expected.pop() == "..."
    assert capsys.readouterr().out.splitlines()[: len(expected)] == expected


def test_the_digits_fail_to_halve_when_they_are_not_centred(tmp_path: Path) -> None:
    assert main(["--data", "digits", "--out", str(tmp_path / "out")]) == 1


def test_claims_named_in_the_readme_exist() -> None:
    known = {claim.id for experiment in EXPERIMENTS for claim in experiment.claims}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", README) if not name.endswith(".py")}
    assert named
    assert named <= known


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    commands = [block.strip() for block in blocks("console") if block.startswith("python -m pip")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_every_file_of_the_reading_order_exists_and_none_is_left_out() -> None:
    order = README.split("## Learn the algorithm")[1].split("## What holds")[0]
    named = set(re.findall(r"`([a-z_]+\.py)`", order))
    files = {path.name for path in (ROOT / "reference").glob("*.py")} - {"__init__.py"}
    assert named == files


# ---- numbers


def test_every_number_stands_beside_its_claim_or_is_a_definition() -> None:
    assert readme.unbound(README, {claim.id for experiment in EXPERIMENTS for claim in experiment.claims}) == []


def test_definitions_are_what_they_are_said_to_be() -> None:
    text = " ".join(readme.blocks(README))
    assert set(readme.CONSTANTS) <= set(readme.NUMBER.findall(text)), "a constant that the README does not use"
    assert all(f"`{formula}`" in text for formula in readme.FORMULAS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Python 3.11 or newer" in text
    assert project["requires-python"] == ">=3.11"
    assert "for 8 neurons" in text
    assert forest_figure.WIDTH == 8
    assert "three to four minutes on two cores" in text
    assert readme.MINUTES == (3, 4)


def test_the_picture_of_the_trees_is_the_one_that_its_command_draws() -> None:
    assert "(reference/forest.svg)" in README

    def labels(svg: str) -> list[str]:
        return re.findall(r">([^<>]*)</text>", svg)

    # Another version of matplotlib draws other outlines, but the same numbers in the same order.
    stored = (ROOT / "reference" / "forest.svg").read_text()
    assert labels(stored) == labels(plots.stand_alone(forest_figure.draw, "forest", forest_figure.CAPTION))
    assert len(labels(stored)) > 56


TOY = """\
At alpha = 0.5 (`toy.exact`) all is well, `b = sqrt(2 alpha ln m)` or not.

| claim | what was found | measured |
| --- | --- | --- |
| `toy.exact` | errors at `m = 2^10` | 0.751 [0.745, 0.756] |
| `toy.count` | trials | 60 of 60 and 59 of 60 |
| `toy.most` | the largest error | at most 6.0e-07 |
| `clock.ratio` | how much faster | 20 [19, 21] |
"""
TEXT = """
By the clock it is 20 [18,
22] times (`clock.ratio`, see `verify/readme.py`); by count 0.751 [0.745, 0.756] with `W` alone (`toy.exact`).
"""


def result(identity: str, estimate: float, interval: list[float | None] | None, **change: str) -> dict[str, Any]:
    texts = {"statement": "At alpha = 0.5 it is so.", "margin": "<= 1", "domain": "m=2^8..1024", "reason": "Found."}
    found = {"id": identity, "verdict": "holds", "estimate": estimate, "interval": interval, "seconds": 90}
    return {**found, **texts, **change}


def results(*changed: dict[str, Any]) -> dict[str, Any]:
    claims = {
        "toy.exact": result("toy.exact", 0.75079, [0.74541, 0.75618]),
        "toy.count": result("toy.count", 1.0, [0.95, 1], reason="60 of 60 halve; of these 59 of 60 early."),
        "toy.most": result("toy.most", 5.97e-7, [1e-10, 5.97e-7]),
        "clock.ratio": result("clock.ratio", 19.4, [18.1, 20.8]),
    }
    claims |= {each["id"]: each for each in changed}
    return {"claims": list(claims.values())}


def test_figures_that_agree() -> None:
    assert readme.check(TOY + TEXT, results(), {"clock"}) == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (result("toy.exact", 0.7528, [0.74541, 0.75618]), "toy.exact: README has '0.751"),
        (result("toy.exact", 0.75079, [0.74541, 0.75718]), "the results '0.751 [0.745, 0.757]'"),
        (result("toy.exact", 0.75079, None), "the results '?'"),
        (result("toy.exact", 0.75079, [0.74541, None]), "the results '?'"),
        (result("toy.exact", 0.75079, [0.74541, 0.75618], domain="m=2^8..2^12"), "2^10 in"),
        (result("toy.exact", 0.75079, [0.74541, 0.75618], statement="At alpha = 0.4."), "0.5 in"),
        (result("toy.count", 1.0, [0.95, 1], reason="60 of 60 and 58 of 60"), "'60 of 60 and 58 of 60'"),
        (result("toy.count", 1.0, [0.95, 1], reason="60 of 60"), "'60 of 60 and ?'"),
        (result("toy.most", 6.1e-7, [1e-10, 6.1e-7]), "at most 6.1e-07"),
        (result("toy.most", 6e-7, [1e-10, 6e-7], verdict="fails"), "toy.most is fails"),
        (result("clock.ratio", 10.0, [5.0, 18.0]), "clock.ratio: README has '20 [19, 21]'"),
        (result("clock.ratio", 22.0, [21.6, 24.0]), "clock.ratio: README has"),
        (result("clock.ratio", 19.4, None), "clock.ratio: README has"),
        ({**result("clock.ratio", 19.4, [18.1, 20.8]), "seconds": 405}, "the cells took two 9.0"),
        ({**result("clock.ratio", 19.4, [18.1, 20.8]), "seconds": 9}, "the cells took two 2.4"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_figures_that_disagree(changed: dict[str, Any], complaint: str) -> None:
    (problem,) = readme.check(TOY, results(changed), {"clock"})
    assert complaint in problem


def test_an_interval_in_the_text_belongs_to_the_claim_named_next() -> None:
    slow, other = result("clock.ratio", 10.0, [5.0, 15.0]), result("toy.exact", 0.75079, [0.7, 0.8])
    by_clock, by_count = readme.check(TEXT, results(slow, other), {"clock"})
    assert by_clock == "clock.ratio: README has '20 [18, 22]', the results '10 [5, 15]'"
    assert by_count == "toy.exact: README has '0.751 [0.745, 0.756]', the results '0.75 [0.70, 0.80]'"
    (problem,) = readme.check(TEXT.replace("with `W`", "and 3 with `W`"), results(), {"clock"})
    assert problem.startswith("3 in 'By the clock")


def test_a_logarithm_is_shown_as_a_quotient() -> None:
    found = result("toy.log", -0.42190, [-0.43732, -0.40648], margin="<= log 0.75")
    assert readme.regenerated("1 [1, 1]", found) == "0.656 [0.646, 0.666]"
    assert readme.regenerated("1 [1, 1]", {**found, "margin": "<= 0 (slope of its log)"}) == "-0.422 [-0.437, -0.406]"
    assert readme.regenerated("1 [1, 1]", {**found, "interval": [None, -0.4]}) == "?"
    assert readme.regenerated("1 [1, 1]", {**found, "estimate": None}) == "?"


def test_a_number_that_no_claim_vouches_for_is_found() -> None:
    known = {claim["id"] for claim in results()["claims"]}
    (problem,) = readme.unbound(f"{TOY}\nIt is 3.7 times faster.\n", known)
    assert problem.startswith("3.7 in 'It is 3.7 times faster.'")
    assert readme.unbound("```\n3.7\n```\n1. one\n12. twelve\n", set()) == [], "code blocks and the numbers of lists"
    assert readme.unbound("See `nowhere.claim`: 3.7.", {"toy.exact"}), "a claim that does not exist vouches for nothing"


def test_writing_renews_the_measured_cells_and_nothing_else() -> None:
    exact, most = result("toy.exact", -0.7, [-0.71, -0.69]), result("toy.most", 0.5, [0, 0.5])
    changed = exact, most, result("clock.ratio", 9, [8, 10])
    new = readme.write(TOY + TEXT, results(*changed))
    assert "| `toy.exact` | errors at `m = 2^10` | -0.700 [-0.710, -0.690] |" in new
    assert "| at most 5.0e-01 |" in new
    assert "By the clock it is 9.0 [8.0, 10.0] times (`clock.ratio`" in new
    assert "by count -0.700 [-0.710, -0.690] with `W` alone" in new
    assert "b = sqrt(2 alpha ln m)" in new
    fenced = "```\n0.1 [0.0, 0.2]\n```\n`toy.exact`\n"
    assert readme.write(fenced, results()) == fenced
    assert "| 9.0 [8.0, 10.0] |" in new
    assert "| 60 of 60 and 59 of 60 |" in new
    assert readme.check(new, results(*changed), {"clock"}) == []
    assert readme.write(new, results()) == readme.write(TOY + TEXT, results())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((0.0, [0.0, 0.00023]), "0 [0, 0.00023]"),
        ((90.5, [71.4, 114.8]), "90 [71, 115]"),
        ((-0.0004, [-0.018, 0.026]), "0.000 [-0.018, 0.026]"),
        ((2.0, [2.0, 2.0]), "2.0000 [2.0000, 2.0000]"),
    ],
)
def test_an_interval_shows_two_digits_of_its_width(found: tuple[float, list[float]], expected: str) -> None:
    assert readme.with_interval({"estimate": found[0], "interval": found[1]}) == expected


def test_command_compares_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [result(claim.id, 1.0, [0.9, 1.1]) for each in EXPERIMENTS for claim in each.claims]
    for claim in claims:
        claim["seconds"] = 420 / len(claims)
    about = {"code": source.code_version(), "seed": 0, "profile": "default"}
    path, text = tmp_path / "results.json", tmp_path / "README.md"
    text.write_text("| `sparsity.level` | level | 0.5 [0.4, 0.6] |\n")
    monkeypatch.setattr(readme, "README", text)

    def run(claims: list[dict[str, Any]], about: dict[str, Any], *options: str) -> tuple[int, str]:
        path.write_text(json.dumps({"claims": claims, "environment": about}))
        status = readme.main([str(path), *options])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    assert run(claims, about) == (1, "sparsity.level: README has '0.5 [0.4, 0.6]', the results '1.00 [0.90, 1.10]'\n")
    assert run(claims, about, "--write") == (0, "README.md agrees with the results\n")
    assert text.read_text() == "| `sparsity.level` | level | 1.00 [0.90, 1.10] |\n"
    for key, other in (("code", "old"), ("seed", 1), ("profile", "thorough")):
        status, printed = run(claims, {**about, key: other})
        assert status == 2
        assert f"has {key} {other!r}" in printed
    status, printed = run(claims[1:], about)
    assert (status, printed) == (2, f"readme: {path} lacks equality.one_step; run python -m verify without --claims\n")
    for key, other in (("verdict", None), ("reason", 5), ("seconds", "3"), ("id", ["x"])):
        status, printed = run([{**claims[0], key: other}, *claims[1:]], about)
        assert status == 2
        assert "cannot be read" in printed
    assert run([3], about)[0] == 2  # type: ignore[list-item]
    path.write_text("{")
    assert readme.main([str(path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
