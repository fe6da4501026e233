"""What is shown how often, what goes together, which repeats meet a target, which pictures are the
best."""

import numpy as np
import pytest

from onmodel.curate.balance import balance
from onmodel.curate.choose import choose_best
from onmodel.curate.coverage import (
    CountedPicture,
    audit_coverage,
    coverage,
    cramers_v,
    effective_number,
)
from onmodel.curate.vocabulary import vocabulary_for
from onmodel.errors import InputError

WORDS = vocabulary_for([], [])


def shown(
    subset: str, style: str, count: int, weight: float = 1.0, **values: str
) -> list[CountedPicture]:
    return [
        CountedPicture(subset, weight, {"style": [style]} | {k: [v] for k, v in values.items()})
    ] * count


def test_counts_are_weighted_by_repeats() -> None:
    cover = coverage([*shown("a", "comic", 10, 2.0), *shown("b", "noir", 20)], WORDS)["style"]
    assert cover.counts["comic"] == cover.counts["noir"] == 20
    assert cover.effective == pytest.approx(2) and "pastel" in cover.never


def test_the_effective_number_of_equal_values_is_their_number() -> None:
    assert effective_number([3, 3, 3, 0]) == pytest.approx(3)
    assert effective_number([100, 1]) < 1.1


def test_cramers_v_is_one_for_the_same_and_about_zero_for_chance() -> None:
    assert cramers_v(np.diag([50, 50, 50]))[0] == pytest.approx(1, abs=0.02)
    rng = np.random.default_rng(0)
    plain = [
        cramers_v(np.histogram2d(rng.integers(4, size=60), rng.integers(6, size=60), (4, 6))[0])
        for _ in range(100)
    ]
    assert np.mean([v for v, _ in plain]) < 0.09  # without the correction it would be 0.28
    assert cramers_v(np.array([[5, 3]])) == (0.0, 1.0)


def test_a_confound_and_a_skew_are_found_and_their_neighbours_are_quiet() -> None:
    rng = np.random.default_rng(1)
    styles, places = ["comic", "noir", "pastel", "lineart"], list(WORDS.attributes["background"])
    rows = [
        row
        for subset in "abc"
        for _ in range(60)
        for row in shown(
            subset,
            "comic" if subset == "a" and rng.random() < 0.8 else str(rng.choice(styles)),
            1,
            background=str(rng.choice(places)),
        )
    ]
    found = {
        (row.kind, row.subject)
        for row in audit_coverage(rows, WORDS, ["style", "background"], np.zeros((180, 12)))
    }
    assert ("confound", "a × style") in found and ("skewed subset", "a: style") in found
    assert not any("background" in subject for _, subject in found)


def test_a_hue_that_one_subset_has_is_found() -> None:
    rows = [*shown("a", "comic", 20), *shown("b", "comic", 20)]
    sectors = np.zeros((40, 12))
    sectors[:20, 3] = 0.2
    subjects = [
        row.subject
        for row in audit_coverage(rows, WORDS, [], sectors)
        if row.kind == "unintended hue"
    ]
    assert subjects == ["a: yellow"]


def test_repeats_meet_a_target_that_they_can_meet() -> None:
    rows = [*shown("a", "comic", 40), *shown("b", "noir", 20), *shown("c", "pastel", 10)]
    target = {"style": dict.fromkeys(("comic", "noir", "pastel"), 1 / 3)}
    found = balance(rows, WORDS, target, {})
    assert found.repeats == {"a": 1, "b": 2, "c": 4} and found.distance < 0.001 < found.before
    assert all(distance > found.distance for distance in found.steps.values())
    with pytest.raises(InputError, match="unknown here"):
        balance(rows, WORDS, {"style": {"cubism": 1.0}}, {})


def test_the_best_are_spread_good_and_no_repeats() -> None:
    rng = np.random.default_rng(2)
    places = rng.normal(size=(4, 6)) * 10
    features = np.repeat(places, 20, axis=0) + rng.normal(size=(80, 6)) * 0.1
    merit = rng.random(80)
    groups = [i // 2 for i in range(80)]
    chosen = choose_best(features, merit, groups, 4)
    assert {i // 20 for i in chosen} == {0, 1, 2, 3}
    many = choose_best(features, merit, groups, 30)
    assert len({groups[i] for i in many}) == 30 and merit[many].mean() > merit.mean()
    assert (
        choose_best(features, merit, list(range(80)), 3, spread=0)
        == np.argsort(-merit)[:3].tolist()
    )


def test_quotas_hold_or_are_refused() -> None:
    rng = np.random.default_rng(3)
    features, merit = rng.normal(size=(30, 4)), np.linspace(0, 1, 30)
    labels = [frozenset({"old" if i < 10 else "new"}) for i in range(30)]
    chosen = choose_best(features, merit, list(range(30)), 12, 0.1, labels, {"old": 5}, {"new": 7})
    assert sum(i < 10 for i in chosen) == 5
    with pytest.raises(InputError, match="quota"):
        choose_best(features, merit, list(range(30)), 20, 0.1, labels, {"old": 11})
    with pytest.raises(InputError, match="repeats"):
        choose_best(features, merit, [0] * 30, 2)
