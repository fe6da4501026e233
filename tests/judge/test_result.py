"""What simulated judges of known truth make of the result."""

import json
import re
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from typer.testing import CliRunner

from onmodel.cli.main import app, main
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.judge.result import SessionResult, result
from onmodel.judge.session import Pair, Session, open_session
from onmodel.judge.strength import strengths
from onmodel.judge.votes import Answer, Votes
from onmodel.randomness import generator
from tests.support.judged_project import MODELS, VALUES, add_evaluation

TRUTH = dict(zip(MODELS, (-0.9, 0.0, 0.9), strict=True))  # log-odds


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked here does not hang on the second digit of an interval's end."""
    monkeypatch.setattr("onmodel.judge.result.strengths", partial(strengths, draws=300))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    project = Project(tmp_path_factory.mktemp("judged"))
    add_evaluation(project)
    return open_session(project, [], 72, 3, "?")


def judged(session: Session, answer: Callable[[int, Pair], Answer]) -> SessionResult:
    return result(session, [answer(at, pair) for at, pair in enumerate(session.pairs)])


def of_truth(seed: int) -> Callable[[int, Pair], Answer]:
    def answer(at: int, pair: Pair) -> Answer:
        chance = 1 / (1 + np.exp(TRUTH[pair.right] - TRUTH[pair.left]))
        return "left" if generator(seed, "judge", at).random() < chance else "right"

    return answer


def share(found: SessionResult, axis: str) -> float | None:
    row = next(row for row in found.axes if row.axis == axis)
    return row.share.value if row.share else None


def test_order_and_strengths_of_a_noisy_judge(session: Session) -> None:
    found = judged(session, of_truth(1))
    assert [model.name for model in found.models] == list(reversed(MODELS))
    for model in found.models:
        assert (
            model.strength is not None
            and model.strength.low < TRUTH[model.name] < model.strength.high
        )
        assert model.won + model.lost + model.tied == 48
    assert found.notes[0].startswith(f"{MODELS[2]} is preferred to {MODELS[0]}")
    assert found.ties is not None and found.ties.value == 0
    assert found == judged(session, of_truth(1))


def test_a_judge_at_random_tells_nobody_apart_and_is_not_consistent(session: Session) -> None:
    def coin(at: int, pair: Pair) -> Answer:
        return "left" if generator(4, "coin", at).integers(2) else "right"

    found = judged(session, coin)
    for model in found.models:
        assert model.preferred is not None and model.preferred.low < 0.5 < model.preferred.high
    assert any(
        note == f"{found.models[0].name} cannot be told from {found.models[1].name},"
        f" {found.models[2].name}"
        for note in found.notes
    )
    assert "the repeats do not show that the judge answers more alike than by chance" in found.notes


def test_intervals_of_random_judges_cover_the_tie() -> None:
    covered = 0
    for trial in range(40):
        wins = np.zeros((12, 2, 2))
        wins[:, 0, 1] = generator(trial, "coins").binomial(2, 0.5, 12)
        wins[:, 1, 0] = 2 - wins[:, 0, 1]
        found = strengths(wins, trial, draws=200).strength(0)
        covered += found.low < 0 < found.high
    assert covered >= 34  # 95 % gives fewer once in a hundred


def test_who_wins_everything_has_an_interval_that_is_no_point() -> None:
    wins = np.zeros((12, 2, 2))
    wins[:, 0, 1] = 1
    found = strengths(wins, 0).preferred(0)
    assert (
        0.6 < found.low < 0.9 and found.high > 0.99
    )  # 12 of 12: Jeffreys 0.81, wider for few prompts


def test_axes_agree_as_their_values_say(session: Session) -> None:
    found = judged(
        session, lambda at, pair: "left" if TRUTH[pair.left] > TRUTH[pair.right] else "right"
    )
    assert share(found, "reproduction") == 1.0
    assert share(found, "colour_cast") == 0.0  # |-9| is worst and |-1| best: the other way round
    assert share(found, "drift") is None and any("base drift" in note for note in found.notes)
    assert not any("by chance" in note for note in found.notes)  # seven repeats alike
    reverse = judged(
        session, lambda at, pair: "right" if TRUTH[pair.left] > TRUTH[pair.right] else "left"
    )
    assert share(reverse, "reproduction") == 0.0 and share(reverse, "colour_cast") == 1.0
    assert any(note.startswith(f"{MODELS[2]} won every vote") for note in found.notes)
    ties = judged(session, lambda at, pair: "tie")
    assert ties.ties is not None and ties.ties.value == 1 and share(ties, "reproduction") is None


def test_all_axes_together_are_added_up_as_select_does(tmp_path: Path) -> None:
    values = {
        "reproduction": VALUES["reproduction"],
        "style": {MODELS[0]: 0.0, MODELS[1]: 0.0, MODELS[2]: 1.0},
    }
    add_evaluation(project := Project(tmp_path), values=values)
    found = judged(open_session(project, [], 36, 0, "?"), of_truth(2))
    costs = {
        name: (1 - values["reproduction"][name]) + values["style"][name] for name in MODELS
    }  # fault 1 each
    assert costs[MODELS[1]] < costs[MODELS[0]] < costs[MODELS[2]]
    bias, style = share(found, "bias"), share(found, "style")
    assert bias is not None and style is not None and bias > style


def test_a_judge_of_one_side_is_told(session: Session) -> None:
    found = judged(session, lambda at, pair: "left")
    assert "the judge leans to the left side" in found.notes
    assert (
        found.repeated is not None
        and found.repeated.value == 0
        and found.reversed == found.repeats == 7
    )


def test_little_says_nothing(session: Session) -> None:
    found = result(session, ["left"])
    assert found.models[0].strength is None and found.ties is None
    assert (
        found.notes[0]
        == "the answers lie on fewer than two prompts: they say nothing about the models"
    )
    assert result(session, []).answered == 0
    few = result(session, ["left", "left"])
    assert any("was never shown" in note for note in few.notes) or all(
        m.won + m.lost for m in few.models
    )


def test_the_command_ends_a_session_and_shows_it_again(tmp_path: Path) -> None:
    add_evaluation(project := Project(tmp_path))
    words = ["judge", str(tmp_path), *MODELS[:2], "--pairs", "20", "--question", "?"]
    opened = open_session(project, list(MODELS[:2]), 20, 0, "?")
    refused = CliRunner().invoke(app, [*words, "--end"])
    assert isinstance(refused.exception, InputError) and "was answered yet" in str(
        refused.exception
    )
    assert not (tmp_path / "judge").exists()
    opened.save()
    votes = Votes(opened.votes)
    for at in range(8):
        votes.vote(at, "left" if opened.pairs[at].left == MODELS[1] else "right")
    told = CliRunner().invoke(app, [*words, "--end", "--json"])
    assert told.exception is None, told.exception
    found = json.loads(told.stdout)
    assert (
        found["answered"] == 8
        and found["models"][0]["name"] == MODELS[1]
        and found["models"][0]["won"] == 8
    )
    assert json.loads((opened.folder / "result.json").read_text()) == found
    shown = CliRunner().invoke(app, words)
    assert (
        shown.exception is None
        and "ended after 8 of 22 pairs" in shown.stdout
        and MODELS[1] in shown.stdout
    )
    nowhere = CliRunner().invoke(app, ["judge", str(tmp_path / "nowhere")])
    assert isinstance(nowhere.exception, InputError) and not (tmp_path / "nowhere").exists()


def test_the_command_tells_the_address_and_pauses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        raise KeyboardInterrupt

    project = tmp_path / "shown"
    add_evaluation(Project(project), prompts=2, seeds=1)
    monkeypatch.setattr(uvicorn.Server, "run", stopped)
    monkeypatch.setattr(sys, "argv", ["onmodel", "judge", str(project), "--pairs", "4"])
    with pytest.raises(SystemExit) as ended:
        main()
    address, progress, pause = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address
    ) and progress.startswith("0 of 5 pairs")
    assert ended.value.code == 130 and pause.startswith("onmodel: paused after step 0 of 5")
    assert address.partition("token=")[2] not in "".join(
        path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "99999"],
        ["--port", "-1"],
        ["--port", "taken"],
        ["--pairs", "0"],
        ["--seed", "9" * 30],
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_evaluation(Project(tmp_path), prompts=2, seeds=1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = [word.replace("taken", str(other.getsockname()[1])) for word in words]
        monkeypatch.setattr(sys, "argv", ["onmodel", "judge", str(tmp_path), *words])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr().err
    assert (
        ended.value.code == 2
        and told.count("\n") == 1
        and told.startswith(f"onmodel: {words[0]}: {words[1]} — ")
    )
