"""Which pairs are shown: balanced, blind, the same again, and over pictures that exist."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from onmodel.engine.project import Project
from onmodel.errors import InputError, StateError
from onmodel.hashing import read_json, write_json
from onmodel.judge.session import draw_pairs, open_session, summaries
from onmodel.judge.votes import Votes
from tests.support.judged_project import MODELS, add_evaluation

PROMPTS = [f"p{at}" for at in range(12)]


def test_every_prefix_is_balanced_over_models_and_prompts() -> None:
    first = [pair for pair in draw_pairs(MODELS, PROMPTS, 2, 60, seed=1) if pair.repeats is None]
    duels = [frozenset((pair.left, pair.right)) for pair in first]
    for end in range(3, 61, 3):
        assert set(Counter(duels[:end]).values()) == {end // 3}
    for duel in map(frozenset, combinations(MODELS, 2)):
        turns = [
            (pair.prompt, pair.seed)
            for pair, other in zip(first, duels, strict=True)
            if other == duel
        ]
        assert len(turns) == len(set(turns)) == 20
        assert {prompt for prompt, _ in turns[:12]} == set(PROMPTS) and {
            seed for _, seed in turns[:12]
        } == {0}


def test_a_tenth_comes_again_later_with_the_sides_swapped() -> None:
    for seed in range(20):
        pairs = draw_pairs(MODELS[:2], PROMPTS, 2, 24, seed)
        again = [(at, pair) for at, pair in enumerate(pairs) if pair.repeats is not None]
        assert len(pairs) == 26 and len(again) == 2
        for at, pair in again:
            before = pairs[pair.repeats or 0]
            assert (before.prompt, before.seed, before.left, before.right) == (
                pair.prompt,
                pair.seed,
                pair.right,
                pair.left,
            )
            assert at - (pair.repeats or 0) >= 8


def test_sides_are_shuffled_and_follow_the_seed_alone() -> None:
    drawn = [draw_pairs(MODELS[:2], PROMPTS, 2, 24, seed) for seed in range(40)]
    left = [pair.left == MODELS[0] for pairs in drawn for pair in pairs if pair.repeats is None]
    assert 0.42 < sum(left) / len(left) < 0.58
    assert drawn[3] == draw_pairs(MODELS[:2], PROMPTS, 2, 24, 3) and drawn[3] != drawn[4]


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_small_sessions_have_a_repeat_too(count: int) -> None:
    pairs = draw_pairs(MODELS[:2], PROMPTS[:5], 2, count, seed=0)
    assert len(pairs) == count + 1 and sum(pair.repeats is not None for pair in pairs) == 1


def test_wrong_wishes_are_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with pytest.raises(InputError, match="no evaluation was made there yet"):
        open_session(project, [], None, 0, "?")
    add_evaluation(project, MODELS[:2], stage="one")
    add_evaluation(project, ("other", MODELS[0]), stage="two")
    with pytest.raises(InputError, match=r"mergd.*there are: .*release_2@30"):
        open_session(project, ["mergd", MODELS[0]], None, 0, "?")
    with pytest.raises(InputError, match="two or more different"):
        open_session(project, [MODELS[0]], None, 0, "?")
    with pytest.raises(InputError, match="no evaluation holds two of them together"):
        open_session(project, [MODELS[1], "other"], None, 0, "?")
    for count in (0, 1, 25):
        with pytest.raises(InputError, match=f"--pairs: {count} — 2 to 24"):
            open_session(project, list(MODELS[:2]), count, 0, "?")
    assert not (tmp_path / "judge").exists()


def test_the_same_wishes_go_on_although_a_newer_evaluation_came(tmp_path: Path) -> None:
    project = Project(tmp_path)
    add_evaluation(project, prompts=4, seeds=1, stage="small")
    add_evaluation(project, stage="old")
    begun = open_session(project, [], 10, 0, "?")
    assert set(begun.models) == set(MODELS)
    assert (
        len(open_session(project, list(MODELS[:2]), 24, 0, "?").pairs) == 26
    )  # the small one has but 4
    named = open_session(project, [MODELS[1], MODELS[0]], 10, 0, "?")
    assert open_session(project, list(MODELS[:2]), 10, 0, "?") == named
    named.save()
    Votes(named.votes).vote(0, "left")
    add_evaluation(project, stage="new")
    assert open_session(project, list(MODELS[:2]), 10, 0, "?") == named
    Votes(named.votes).end()
    fresh = open_session(project, list(MODELS[:2]), 10, 0, "?")
    assert fresh.evaluation != named.evaluation and fresh.folder != named.folder


def test_a_picture_that_is_gone_is_named_before_the_first_vote(tmp_path: Path) -> None:
    made = add_evaluation(project := Project(tmp_path))
    gone = made.path / "pictures" / "0000.png"
    gone.unlink()
    with pytest.raises(StateError, match=r"0000\.png"):
        open_session(project, [], 72, 0, "?")


@pytest.mark.parametrize("damage", ["flipped", "longer", "swapped", "a file more"])
def test_pictures_that_the_evaluation_did_not_make_are_refused_before_the_first_vote(
    tmp_path: Path, damage: str
) -> None:
    made = add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    one, other = made.path / "pictures" / "0000.png", made.path / "pictures" / "1000.png"
    data = one.read_bytes()
    changed = {
        "flipped": data[:-20] + b"x" + data[-19:],
        "longer": data + b"x",
        "swapped": other.read_bytes(),
    }
    one.write_bytes(changed.get(damage, data))
    if damage == "a file more":
        (made.path / "pictures" / "more.png").write_bytes(data)
    more = made.path / "pictures" / "more.png"
    with pytest.raises(StateError, match=r"since it was made|no part of the evaluation") as told:
        open_session(project, [], None, 0, "?")
    assert told.value.path == (more if damage == "a file more" else one)


@pytest.mark.parametrize(
    "row",
    [
        {"seed": 2},
        {"seed": -1},
        {"seed": "0"},
        {"seed": True},
        {"prompt": "x"},
        {"prompt": []},
        {"left": "x"},
        {"left": [1]},
        {"left": MODELS[0], "right": MODELS[0]},
        {"repeats": 1},
        {"repeats": 0},
        {"repeats": -1},
        {"more": 1},
        {"right": None},
    ],
)
def test_a_session_that_does_not_fit_its_evaluation_is_one_line(
    tmp_path: Path, row: dict[str, object]
) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    session = open_session(project, [], None, 0, "?")
    session.save()
    file = session.folder / "session.json"
    saved = read_json(file)
    saved["pairs"][0] |= row
    write_json(file, saved)
    with pytest.raises(StateError, match=r"session\.json: .*another --seed$"):
        open_session(project, [], None, 0, "?")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "no",
        "[" * 9_000,
        '{"pairs": []}',
        '{"pairs": 1}',
        '{"pairs": {"a": 1}}',
        '{"pairs": [1]}',
        "\x00",
    ],
)
def test_a_damaged_session_is_one_line(tmp_path: Path, text: str) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    session = open_session(project, [], None, 0, "?")
    session.save()
    (session.folder / "session.json").write_text(text)
    with pytest.raises(StateError, match=r"session\.json"):
        open_session(project, [], None, 0, "?")


@pytest.mark.parametrize(
    "file", ["../../../secret.png", "/etc/hostname", "pictures/../../x.png", "pictures\\x.png"]
)
def test_an_evaluation_cannot_show_files_outside_itself(tmp_path: Path, file: str) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1, file=file)
    with pytest.raises(InputError, match=r"evaluation\.json"):
        open_session(project, [], None, 0, "?")


def test_options_out_of_range_are_one_line(tmp_path: Path) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    for count, seed, question, field in (
        (10**30, 0, "?", "--pairs"),
        (-1, 0, "?", "--pairs"),
        (-(10**30), 0, "?", "--pairs"),
        (5, 10**30, "?", "--seed"),
        (5, -(10**30), "?", "--seed"),
        (5, 0, "a\nb", "--question"),
        (5, 0, "\udcff", "--question"),
    ):
        with pytest.raises(InputError, match=field):
            open_session(project, [], count, seed, question)
    assert len(open_session(project, [], 5, -3, "?").pairs) == 6


def test_a_damaged_session_hides_no_other(tmp_path: Path) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    first, second = (open_session(project, [], None, seed, "?") for seed in (0, 1))
    for session in (first, second):
        session.save()
    assert {row.id for row in summaries(project)} == {first.folder.name, second.folder.name}
    (first.folder / "session.json").write_text("{")
    assert [row.id for row in summaries(project)] == [second.folder.name]


def test_a_question_has_a_length(tmp_path: Path) -> None:
    add_evaluation(project := Project(tmp_path), prompts=2, seeds=1)
    with pytest.raises(InputError, match="at most 300 characters"):
        open_session(project, [], None, 0, "a" * 301)
