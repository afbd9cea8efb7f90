"""Comparing revisions: loads that share nothing, verdicts on a clock that the code moves, a repository left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from numpy.typing import ArrayLike

import fast.gauss_newton
from reference.notation import InputError
from verify import __main__ as command
from verify import against, source
from verify.against import NO_DIFFERENCE, NO_EVIDENCE, Comparison, Tree
from verify.loops import LOOPS, Load, Loop, Setting, Steps
from verify.statistics import Interval

ROOT, RUN = source.ROOT, against.run
TOY = "import toy_clock\n\ndef work():\n    toy_clock.now += {seconds}\n    return {count}\n"
STEADY = TOY.format(seconds=1.0, count=7)


def toy(load: Load, setting: Setting) -> Steps:
    """Start for nothing; then two iterations of the toy's work."""
    module = load("fast.toy")

    def act() -> dict[str, int]:
        return {"work": module.work()}

    def start() -> dict[str, int]:
        against.clock.__self__.now += 2.0  # type: ignore[attr-defined]
        return {}

    return [("start", start), ("iteration 1", act), ("iteration 2", act)]


TOY_LOOP = Loop("toy", toy, Setting(1, 1, 1), Setting(2, 1, 1))


class Clock(SimpleNamespace):
    """A clock that the toys move."""

    now = 0.0

    def read(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def toy_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setitem(sys.modules, "toy_clock", clock)  # type: ignore[arg-type]
    monkeypatch.setattr(against, "clock", clock.read)
    return clock


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    finders, modules = list(sys.meta_path), {name: module for name, module in sys.modules.items() if ours(name)}
    yield
    assert sys.meta_path == finders
    assert {name: module for name, module in sys.modules.items() if name in modules} == modules


def ours(name: str) -> bool:
    return name.split(".")[0] in against.PACKAGES


def tree(folder: Path, source: str = STEADY, **others: str) -> Path:
    """Write packages with a toy in them."""
    for package in against.PACKAGES:
        (folder / package).mkdir(parents=True, exist_ok=True)
        (folder / package / "__init__.py").write_text("")
    for name, text in {"toy": source, **others}.items():
        (folder / "fast" / f"{name}.py").write_text(text)
    return folder


def verdicts(theirs: Path, mine: Path) -> dict[str, str]:
    found = against.compare(theirs, mine, [TOY_LOOP], rounds=20)
    return {each.phase: each.verdict for each in found.comparisons}


# ---- loads


def test_loads_share_no_module_and_leave_the_process_as_it_was() -> None:
    before = sys.modules["fast.gauss_newton"]
    first, second = Tree(ROOT), Tree(ROOT)
    one, other = (each.load("fast.gauss_newton") for each in (first, second))
    assert len({id(one), id(other), id(fast.gauss_newton)}) == 3
    assert one.EventRun is not other.EventRun
    assert sys.modules["fast.gauss_newton"] is before
    assert first.load("fast.gauss_newton") is one
    # What it imports is its own as well, and once.
    network = first.load("reference.two_layer").TwoLayerNetwork
    assert first.load("fast.two_layer").TwoLayerNetwork is network
    assert network is not second.load("reference.two_layer").TwoLayerNetwork


def test_imports_made_while_a_function_runs_are_its_own(tmp_path: Path) -> None:
    late = "def work():\n    from fast.other import name\n    return name\n"
    loads = [Tree(tree(tmp_path / name, late, other=f"name = {name!r}")) for name in ("a", "b")]
    for each, name in zip(loads, "ab", strict=True):
        module = each.load("fast.toy")
        with each.active():
            assert module.work() == name


def test_a_module_that_the_folder_lacks_is_not_taken_from_elsewhere(tmp_path: Path) -> None:
    """Python would go on to look in the working tree, and find ours."""
    some = Tree(tree(tmp_path / "some", new="import fast.gauss_newton"))
    for name in ("fast.gauss_newton", "fast.new"):
        with pytest.raises(ModuleNotFoundError, match=r"no module fast\.gauss_newton"):
            some.load(name)
    assert set(some.modules) == {"fast"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModuleNotFoundError, match="no module fast"):
        Tree(tmp_path / "empty").load("fast.gauss_newton")


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_every_loop_runs_in_a_tree_of_its_own_and_counts_the_same(loop: Loop) -> None:
    found = against.Found()
    trees = {side: Tree(ROOT) for side in against.SIDES}
    runner = against.prepare(replace(loop, large=loop.small), trees, found)
    assert runner is not None
    assert (found.counts, found.missing, found.broken) == ([], {}, {})


# ---- verdicts


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(1.0, NO_DIFFERENCE), (1.04, NO_DIFFERENCE), (1.15, "slower"), (0.87, "faster"), (1.06, "slower")],
)
def test_verdicts_follow_the_paired_ratio(tmp_path: Path, seconds: float, verdict: str) -> None:
    mine = tree(tmp_path / "ours", TOY.format(seconds=seconds, count=7))
    assert verdicts(tree(tmp_path / "theirs"), mine) == {"start": NO_DIFFERENCE, "iteration": verdict}


def test_a_phase_is_the_sum_of_its_steps(tmp_path: Path) -> None:
    mine = tree(tmp_path / "ours", TOY.format(seconds=3.0, count=7))
    start, iteration = against.compare(tree(tmp_path / "theirs"), mine, [TOY_LOOP], rounds=20).comparisons
    assert (start.seconds, iteration.seconds) == pytest.approx((2.0, 6.0))
    assert iteration.ratio.estimate == pytest.approx(1 / 3)
    assert iteration.control.estimate == pytest.approx(1.0)


def test_a_control_that_differs_is_no_evidence(tmp_path: Path, toy_clock: Clock) -> None:
    """Ours is loaded twice; each load after the first is slower."""
    toy_clock.loads = 0
    text = "import toy_clock\ntoy_clock.loads += 1\nself = toy_clock.loads\n"
    text += "def work():\n    toy_clock.now += 1 + 0.06 * (self == 2)\n    return 7\n"
    assert verdicts(tree(tmp_path / "theirs"), tree(tmp_path / "ours", text))["iteration"] == NO_EVIDENCE


@pytest.mark.parametrize(
    ("found", "control", "verdict"),
    [
        ((0.9, 0.85, 0.95), (1.0, 0.9, 1.1), "slower"),
        ((0.9, 0.85, 0.96), (1.0, 0.99, 1.01), "undecided"),
        ((1.1, 1.06, 1.2), (1.02, 1.01, 1.03), "faster"),
        ((1.1, 1.06, 1.2), (1.03, 1.026, 1.04), NO_EVIDENCE),
        ((1.1, 1.06, 1.2), (0.97, 0.96, 0.975), NO_EVIDENCE),
        ((1.01, 0.97, 1.04), (1.0, 0.9, 1.1), NO_DIFFERENCE),
        ((float("nan"),) * 3, (1.0, 0.99, 1.01), "undecided"),
    ],
)
def test_decide(found: tuple[float, float, float], control: tuple[float, float, float], verdict: str) -> None:
    assert against.decide(Interval(*found), Interval(*control)) == verdict


def test_all_intervals_hold_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of ``k`` ratios gets a share of the error; a phase has two intervals, of which one decides."""
    asked: list[float] = []

    def ratio(over: ArrayLike, under: ArrayLike, *, block: int, confidence: float) -> Interval:
        asked.append(confidence)
        return Interval(1.0, 1.0, 1.0)

    monkeypatch.setattr(against, "ratio", ratio)
    for count in (1, 10):
        loops = [replace(TOY_LOOP, name=f"toy {number}") for number in range(count)]
        against.compare(tree(tmp_path / "theirs"), tree(tmp_path / "ours"), loops, rounds=20)
    assert asked == pytest.approx([1 - 0.05 / 2] * 4 + [1 - 0.05 / 20] * 40)


# ---- what differs, is missing or stops


def test_counts_that_differ_are_listed_side_by_side(tmp_path: Path) -> None:
    mine = tree(tmp_path / "ours", TOY.format(seconds=1.0, count=8))
    found = against.compare(tree(tmp_path / "theirs"), mine, [TOY_LOOP], rounds=20)
    assert found.counts == [f"toy {TOY_LOOP.large}, iteration {t}, work: 7 -> 8 (+14.3%)" for t in (1, 2)]
    assert "theirs -> ours" in against.to_text(found, "")


def test_a_loop_that_one_side_lacks_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    theirs = tree(tmp_path / "theirs", late="raise AttributeError('no such name')", odd="1 / 0")
    mine = tree(tmp_path / "ours", new=STEADY, late=STEADY, odd=STEADY)

    def other(name: str) -> Loop:
        return Loop(name, lambda load, setting: toy(lambda _: load(f"fast.{name}"), setting), *[Setting(1, 1, 1)] * 2)

    loops = [TOY_LOOP, other("new"), other("late"), other("odd"), other("gone")]
    found = against.compare(theirs, mine, loops, rounds=20)
    assert {each.loop for each in found.comparisons} == {"toy"}
    assert [found.missing[name].split(" (")[0] for name in ("new", "late", "odd")] == [
        "not there at the revision",
        "not there at the revision",
        "stops at the revision",
    ]
    assert found.broken["gone"].startswith("stops in the working tree (")
    assert found.status == 1
    text = against.to_text(found, "heading")
    assert "new: not there at the revision (no module fast.new)" in text
    assert "gone: stops in the working tree" in text
    with pytest.raises(InputError, match=r"no loop runs on both sides .*name a later revision"):
        against.compare(theirs, mine, [other("new")], rounds=20)


def test_status() -> None:
    def found(*verdicts: str) -> against.Found:
        one = Interval(1.0, 1.0, 1.0)
        return against.Found([Comparison("a", "b", "c", 1.0, one, one, verdict) for verdict in verdicts])

    assert found("faster", NO_DIFFERENCE, "undecided", NO_EVIDENCE).status == 0
    assert found("faster", "slower").status == 1
    assert "Of 2 phases: 1 slower, 1 faster." in against.to_text(found("faster", "slower"), "")


@pytest.mark.parametrize(
    ("names", "message"),
    [("", "names no loop"), ("tre", "unknown loop 'tre'; did you mean tree"), ("tree,nil", "'nil'; choose from")],
)
def test_unknown_loops_are_refused(names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        against.select(names)


def test_loops_are_chosen_in_their_own_order() -> None:
    assert [loop.name for loop in against.select(" forest, tree")] == ["tree", "forest"]
    assert against.select(None) == list(LOOPS)


def test_too_few_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--rounds is 19; pass 20 or more"):
        against.compare(tree(tmp_path), tmp_path, [TOY_LOOP], rounds=19)


# ---- the repository


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository whose first commit is steady, whose second lacks the toy, and whose tree has a slower one."""
    root = tmp_path / "repository"
    tree(root)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    git(root, "tag", "steady")
    (root / "fast" / "toy.py").unlink()
    git(root, "commit", "-qam", "two")
    (root / "fast" / "toy.py").write_text(TOY.format(seconds=1.15, count=9))
    return root


def test_a_revision_is_checked_out_elsewhere_and_removed_again(repository: Path) -> None:
    state = git(repository, "status", "--porcelain"), git(repository, "worktree", "list"), git(repository, "branch")
    with against.checked_out("steady", repository) as (folder, commit):
        assert commit == git(repository, "rev-parse", "steady")
        assert (folder / "fast" / "toy.py").read_text() == STEADY
        assert not folder.is_relative_to(repository)
    assert not folder.exists()
    assert not folder.parent.exists()
    with suppress(KeyboardInterrupt), against.checked_out("HEAD", repository) as (folder, _):
        assert folder.exists()
        raise KeyboardInterrupt
    assert not folder.parent.exists()
    assert state == (
        git(repository, "status", "--porcelain"),
        git(repository, "worktree", "list"),
        git(repository, "branch"),
    )


@pytest.mark.parametrize("revision", ["nonsense", "", "--help", "HEAD:fast"])
def test_a_revision_that_is_none_is_refused(repository: Path, revision: str) -> None:
    with pytest.raises(InputError, match="no such revision"), against.checked_out(revision, repository):
        pass


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no git checkout"), against.checked_out("HEAD", tmp_path):
        pass


# ---- the command


def main(monkeypatch: pytest.MonkeyPatch, root: Path, out: Path, *arguments: str) -> int:
    monkeypatch.setattr(command, "end_on_termination", lambda: None)
    monkeypatch.setattr(against, "LOOPS", (TOY_LOOP,))
    monkeypatch.setattr(against, "run", partial(RUN, root=root))
    return command.main(["--out", str(out), *arguments])


def test_the_command_reports_what_is_slower(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(monkeypatch, repository, out, "--against", "steady", "--rounds", "20") == 1
    printed = capsys.readouterr().out
    assert "with uncommitted changes" in printed
    assert f"Theirs: steady, {git(repository, 'rev-parse', 'steady')[:12]}" in printed
    assert "slower" in printed
    assert "work: 7 -> 9 (+28.6%)" in printed
    stored = json.loads((out / "against.json").read_text())
    assert [each["verdict"] for each in stored["comparisons"]] == [NO_DIFFERENCE, "slower"]
    assert stored["comparisons"][1]["ratio"]["estimate"] == pytest.approx(1 / 1.15)
    assert stored["theirs"] == git(repository, "rev-parse", "steady")
    assert (stored["rounds"], stored["margin"]) == (20, 0.05)
    assert {path.name for path in out.iterdir()} == {"ABOUT.txt", "against.json"}
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    assert main(monkeypatch, repository, out, "--against", "HEAD", "--rounds", "20") == 0
    assert "without uncommitted changes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "nonsense"], "no such revision"),
        (["--against", "HEAD"], "no loop runs on both sides"),  # the second commit has no toy
        (["--against", "steady", "--rounds", "3"], "--rounds is 3; pass 20 or more"),
        (["--against", "steady", "--loops", "nil"], "unknown loop 'nil'"),
        (["--loops", "tree"], "name it with --against"),
        (["--rounds", "30"], "name it with --against"),
        (["--against", "steady", "--claims", "time"], "--claims does not go with --against"),
        (["--against", "steady", "--data", "digits"], "--data does not go with --against"),
        (["--against", "steady", "--thorough"], "--thorough does not go with --against"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(monkeypatch, repository, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_null_in_the_file() -> None:
    bad = Interval(1.0, float("nan"), float("inf"))
    text = against.to_json(against.Found([Comparison("a", "b", "c", 1.0, bad, bad, "undecided")]), theirs="x")
    assert json.loads(text)["comparisons"][0]["ratio"] == {"estimate": 1.0, "low": None, "high": None}
