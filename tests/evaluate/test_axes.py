"""Axes on models of known faults: the planted fault is found, its neighbours stay quiet, what is
absent reads 0."""

import dataclasses
from functools import lru_cache

import numpy as np
import pytest

from onmodel.evaluate.axes import AXES, AxisResult, Evidence, Training, Unavailable, evaluate_axis
from onmodel.evaluate.axes.base import asked_columns, chosen, informedness, mean_of_rows, seen_rows
from onmodel.evaluate.axes.composition import vendi
from onmodel.evaluate.features import Features
from onmodel.evaluate.observer_check import ObserverCheck
from onmodel.evaluate.observers.identity import unit
from tests.support.drawn_family import Faults, evidence

FAULTS = {
    "clean": Faults(),
    "yellow": Faults(yellow=0.3),
    "expression": Faults(expression="smile"),
    "style": Faults(style="comic"),
    "layout": Faults(frozen_layout=True),
    "hair": Faults(wrong_hair=True),
    "leak": Faults(leak=True),
}


@lru_cache
def seen(name: str) -> Evidence:
    return evidence(FAULTS[name])


@lru_cache
def measured(name: str, axis: str) -> AxisResult:
    return evaluate_axis(axis, seen(name))


def value(name: str, axis: str) -> float:
    return measured(name, axis).interval.value


def test_a_clean_lora_is_near_the_ideal_on_every_axis() -> None:
    assert value("clean", "reproduction") > 0.8
    assert 0.9 < value("clean", "responsiveness") < 1.1
    assert 0.85 < value("clean", "expression") < 1.15
    assert 0.85 < value("clean", "composition") < 1.15
    assert value("clean", "style") < 0.1
    assert abs(value("clean", "colour_cast")) < 2
    assert abs(value("clean", "colour_area")) < 2
    assert value("clean", "drift") < 0.05


@pytest.mark.parametrize(
    ("fault", "axis", "low", "high"),
    [
        ("yellow", "colour_cast", 5, 30),
        ("yellow", "colour_area", 4, 100),
        ("expression", "expression", 0, 0.4),
        ("expression", "default_expression", 0.4, 1),
        ("style", "style", 0.8, 1),
        ("layout", "composition", 0.3, 0.8),
        ("hair", "reproduction", 0, 0.3),
        ("leak", "drift", 0.3, 2),
    ],
)
def test_a_planted_fault_is_found(fault: str, axis: str, low: float, high: float) -> None:
    found = measured(fault, axis).interval
    assert low <= found.value <= high
    clean = measured("clean", axis).interval
    assert found.low > clean.high or found.high < clean.low


@pytest.mark.parametrize(
    ("fault", "quiet"),
    [
        (
            "yellow",
            (
                "reproduction",
                "responsiveness",
                "expression",
                "default_expression",
                "style",
                "drift",
            ),
        ),
        ("expression", ("reproduction", "composition", "style", "drift")),
        ("style", ("reproduction", "expression", "drift")),
        ("hair", ("responsiveness", "expression", "style", "drift")),
    ],
)
def test_the_neighbours_of_a_fault_stay_quiet(fault: str, quiet: tuple[str, ...]) -> None:
    for axis in quiet:
        assert value(fault, axis) == pytest.approx(value("clean", axis), abs=0.08), axis


def test_a_model_that_changes_nothing_drifts_by_nothing_and_is_not_the_character() -> None:
    null = evidence(None)
    assert evaluate_axis("drift", null).interval.value == pytest.approx(0, abs=0.02)
    assert evaluate_axis("reproduction", null).interval.value < 0.2


def test_twins_tie_exactly() -> None:
    again = evidence(Faults())
    for axis in AXES:
        assert evaluate_axis(axis, again).per_prompt == measured("clean", axis).per_prompt


def test_yellow_reads_more_with_every_dose() -> None:
    doses = [evidence(Faults(yellow=amount), seeds=1) for amount in (0.0, 0.2, 0.3, 0.4)]
    for axis in ("colour_cast", "colour_area"):
        read = [evaluate_axis(axis, dose).interval.value for dose in doses]
        assert read == sorted(read) and read[-1] > read[0] + 5


def test_a_cast_says_how_much_of_it_hangs_on_the_trigger() -> None:
    whole = seen("yellow")
    bound = measured("yellow", "colour_cast").details
    assert bound["trigger_bound"]["whole"] == pytest.approx(
        bound["whole"]
    )  # nothing without the trigger
    everywhere = dataclasses.replace(whole.arm("N"), lab=whole.arm("N").lab + np.array([0, 0, 5]))
    leaky = dataclasses.replace(whole, arms=whole.arms | {"N": everywhere})
    found = evaluate_axis("colour_cast", leaky)
    assert found.details["trigger_bound"]["whole"]["b"] == pytest.approx(bound["whole"]["b"] - 5)
    assert found.interval == measured("yellow", "colour_cast").interval
    arms = {letter: arm for letter, arm in whole.arms.items() if letter != "N"}
    assert (
        evaluate_axis("colour_cast", dataclasses.replace(whole, arms=arms)).details["trigger_bound"]
        is None
    )


def test_prompts_that_ask_for_yellow_are_left_out() -> None:
    shown = measured("clean", "colour_area").per_prompt
    assert all("sunset" not in prompt for prompt in shown)
    asks = [dataclasses.replace(p, asked={"background": "sunset"}) for p in seen("clean").prompts]
    with pytest.raises(Unavailable, match="asks for yellow"):
        evaluate_axis("colour_area", dataclasses.replace(seen("clean"), prompts=asks))


def test_style_pull_is_told_in_the_details() -> None:
    pulled = evaluate_axis("style", evidence(Faults(unstyled="pixel art")))
    assert pulled.details["pull_towards"] == "pixel art" and pulled.details["pull"] > 0.5
    assert pulled.interval.value < 0.3  # it follows when a style is asked


def test_the_expression_that_comes_unasked_is_named_and_chance_chooses_none() -> None:
    rise = measured("expression", "default_expression").details["rise"]
    assert max(rise, key=rise.get) == "smile" and rise["smile"] > 0.4
    whole = seen("clean")
    again = dataclasses.replace(whole, arms=whole.arms | {"L": whole.arms["B"]})
    assert (
        evaluate_axis("default_expression", again).interval.value < 0.1
    )  # the largest of six rises would be more
    asks = [dataclasses.replace(prompt, asked={"expression": "sad"}) for prompt in whole.prompts]
    with pytest.raises(Unavailable, match="ask no expression"):
        evaluate_axis("default_expression", dataclasses.replace(whole, prompts=asks))


def test_a_choice_by_the_other_half_owes_nothing_to_chance() -> None:
    noise = np.random.default_rng(0).normal(size=(2000, 16, 6))
    once = np.ones((1, 16))
    assert abs(chosen(noise, once).mean()) < 0.02 and noise.mean(1).max(1).mean() > 0.25
    rows, weights = np.array([[[1, 3], [1, 0], [1, 0]]]), np.array([[1, 1, 1], [1, 0, 1]])
    assert chosen(rows, weights[:1]).tolist() == [[1, 0, 1]]
    assert np.isnan(chosen(rows, weights[1:])[0, [0, 2]]).all()


def test_missing_observers_arms_and_references_are_said_not_guessed() -> None:
    whole = seen("clean")

    def without(part: str) -> Evidence:
        arms = {
            k: dataclasses.replace(v, **{part: getattr(v, part)[..., :0]})
            for k, v in whole.arms.items()
        }
        return dataclasses.replace(whole, arms=arms)

    with pytest.raises(Unavailable, match="no tagger"):
        evaluate_axis("responsiveness", without("tags"))
    with pytest.raises(Unavailable, match="no identity model"):
        evaluate_axis("reproduction", without("identity"))
    with pytest.raises(Unavailable, match="references"):
        evaluate_axis("reproduction", dataclasses.replace(whole, references=None))
    with pytest.raises(Unavailable, match="arm N"):
        evaluate_axis(
            "drift",
            dataclasses.replace(whole, arms={k: v for k, v in whole.arms.items() if k != "N"}),
        )
    assert evaluate_axis("colour_cast", without("tags")).interval.n > 2


def test_few_or_copied_references_are_not_enough() -> None:
    whole = seen("clean")
    assert whole.references is not None
    copies = dataclasses.replace(whole.references, groups=np.zeros_like(whole.references.groups))
    with pytest.raises(Unavailable, match="different held-out references"):
        evaluate_axis("reproduction", dataclasses.replace(whole, references=copies))


def test_one_seed_cannot_show_diversity() -> None:
    single = evidence(Faults(), seeds=1)
    for axis in ("composition", "drift"):
        with pytest.raises(Unavailable, match="2 pictures of a prompt"):
            evaluate_axis(axis, single)


def test_informedness_is_one_when_obeyed_and_zero_when_ignored() -> None:
    def found(name: str) -> np.ndarray:
        rows, columns = seen_rows(seen(name), "L", ["expression"])
        once = np.ones((1, len(rows)))
        return informedness(rows[None], once, asked_columns(seen(name), columns)[0])[0]

    obeyed, ignored = found("clean"), found("expression")
    assert np.nanmean(obeyed) > 0.8 and abs(np.nanmean(ignored)) < 0.05
    assert np.isnan(obeyed[0])  # the identity prompt asks nothing


def test_mean_of_rows_leaves_unknown_out() -> None:
    assert mean_of_rows([np.array([1.0, np.nan, np.nan]), np.array([3.0, 2.0, np.nan])]).tolist()[
        :2
    ] == [2.0, 2.0]


def test_vendi_counts_different_rows() -> None:
    assert vendi(np.zeros((4, 2)), 1.0) == pytest.approx(1)
    assert vendi(np.eye(4) * 100, 1.0) == pytest.approx(4)


def test_every_record_is_complete_and_json() -> None:
    for id, (axis, _) in AXES.items():
        record = axis.as_dict()
        assert id == axis.id and axis.origin and axis.limits and axis.version >= 1
        assert record["direction"] in ("up", "down", "zero", "one") and len(record["range"]) == 2


# --- the newer axes
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "axis", "low", "high"),
    [
        (Faults(ears="rabbit ears"), "design", 0.05, 1),
        (Faults(body="chibi"), "body", -1.1, -0.7),
        (Faults(outfit="jacket"), "outfit_change", -0.2, 0.2),
        (Faults(outfit="jacket"), "outfit_leak", 0.6, 1),
        (Faults(changing_outfit=True), "outfit_keep", 0, 0.5),
        (Faults(copies=True), "memorisation", 0.9, 1),
        (Faults(tied=True), "entanglement", 0.03, 1),
        (Faults(expression="smile"), "override", 0.2, 1),
        (Faults(frozen_layout=True), "default_framing", 0.2, 1),
        (Faults(noise=16), "grain", 8, 20),
    ],
)
def test_a_newer_axis_finds_its_fault_and_reads_a_clean_model_clean(
    faults: Faults, axis: str, low: float, high: float
) -> None:
    name = (
        "confirm" if axis in ("entanglement", "default_framing") else "choose"
    )  # twelve prompts are too few for them
    clean, found = (
        evaluate_axis(axis, evidence(given, suite_name=name)).interval
        for given in (Faults(), faults)
    )
    assert low <= found.value <= high
    assert not low <= clean.value <= high and (found.low > clean.value or found.high < clean.value)


def test_a_framing_that_nobody_asked_for_neither_keeps_nor_loses_the_garment() -> None:
    # One layout never cuts the jacket off, a free one does now and then.
    free, fixed = (
        evidence(given, suite_name="confirm") for given in (Faults(), Faults(frozen_layout=True))
    )
    kept = [evaluate_axis("outfit_keep", one).interval.value for one in (free, fixed)]
    assert abs(kept[0] - kept[1]) < 0.05
    open_ = [
        i
        for i, prompt in enumerate(free.prompts)
        if not {"framing", "outfit"} & prompt.asked.keys()
    ]
    close = free.seen("L", "framing")["close-up"][open_].mean(1)
    assert close.max() > 0.3  # so something was cut off


def test_design_checks_only_what_references_of_that_framing_and_style_show() -> None:
    traits = evaluate_axis("design", evidence(Faults(ears="rabbit ears"))).details["traits"]
    assert traits["cat ears"]["violated"] > 0.9 and traits["rabbit ears"]["violated"] > 0.9
    assert traits["bob cut"]["violated"] < 0.05
    neck, hair = traits["red ribbon"]["checks"], traits["bob cut"]["checks"]
    assert 0 < neck < hair  # a close-up cuts the ribbon off


def test_a_severe_error_weighs_more() -> None:
    ears = evidence(Faults(ears="rabbit ears"))
    equal = evaluate_axis("design", ears)
    sheet = ears.character.model_copy(update={"severity": {"cat ears": 3.0, "rabbit ears": 3.0}})
    severe = evaluate_axis("design", dataclasses.replace(ears, character=sheet))
    assert (
        severe.interval.value > 1.5 * equal.interval.value
        and severe.details["traits"] == equal.details["traits"]
    )
    alike = ears.character.model_copy(
        update={"severity": dict.fromkeys(ears.character.required, 1.0)}
    )
    assert (
        evaluate_axis("design", dataclasses.replace(ears, character=alike)).per_prompt
        == equal.per_prompt
    )


def test_memorisation_names_the_training_picture_beside_the_copy() -> None:
    found = evaluate_axis("memorisation", evidence(Faults(copies=True))).details
    assert (
        found["nearest"][0]["training"].startswith("base/")
        and found["nearest"][0]["similarity"] > 0.9
    )
    assert found["contrast"] > measured("clean", "memorisation").details["contrast"]


def test_entanglement_says_which_word_pulls_what() -> None:
    matrix = evaluate_axis("entanglement", evidence(Faults(tied=True))).details["matrix"]
    assert matrix["style"]["expression"] > 0.05 > abs(matrix["framing"]["view"])


def test_unbiased_entanglement_reads_zero_for_a_model_that_draws_at_random() -> None:
    """A model that leaves everything open to chance and one that never varies are both
    untangled."""
    steady = evaluate_axis(
        "entanglement", evidence(Faults(expression="smile", frozen_layout=True))
    ).interval
    assert abs(value("clean", "entanglement")) < 0.05 and abs(steady.value) < 0.08


def test_the_newer_axes_say_what_they_miss() -> None:
    whole = seen("clean")
    with pytest.raises(Unavailable, match="training"):
        evaluate_axis("memorisation", dataclasses.replace(whole, training=None))
    for axis in ("design", "body", "memorisation"):
        with pytest.raises(Unavailable, match="references"):
            evaluate_axis(axis, dataclasses.replace(whole, references=None))
    untold = {
        tag: column for tag, column in whole.columns.items() if tag not in ("chibi", "jacket")
    }
    with pytest.raises(Unavailable, match="small and tall"):
        evaluate_axis("body", dataclasses.replace(whole, columns=untold))
    with pytest.raises(Unavailable, match="first outfit"):
        evaluate_axis("outfit_keep", dataclasses.replace(whole, columns=untold))
    with pytest.raises(Unavailable, match="2 pictures of a prompt"):
        evaluate_axis("entanglement", evidence(Faults(), seeds=1))


def _blind(evidence_: Evidence, *attributes: str) -> Evidence:
    """The evidence, with a tagger that cannot read these attributes."""
    failed = {
        name: ObserverCheck(name, 0.48, 24, "references", "AUC", 0.3, 0.66) for name in attributes
    }
    return dataclasses.replace(evidence_, checks=failed)


@pytest.mark.parametrize("axis", ["responsiveness", "entanglement", "override"])
def test_an_attribute_that_cannot_be_read_is_left_out_and_the_others_are_judged(axis: str) -> None:
    whole = measured("clean", axis)
    found = evaluate_axis(axis, _blind(seen("clean"), "style"))
    assert "left_out" not in whole.details
    assert list(found.details["left_out"]) == ["style"]
    assert "style cannot be read" in found.details["left_out"]["style"]
    assert found.interval.value == pytest.approx(whole.interval.value, abs=0.15)
    assert "style" not in found.details.get("J", found.details.get("matrix", {}))


@pytest.mark.parametrize("axis", ["responsiveness", "entanglement", "override"])
def test_with_fewer_than_half_of_the_attributes_the_axis_is_not_judged(axis: str) -> None:
    clean = seen("clean")
    free = sorted(clean.free & set(clean.vocabulary))
    most = len(free) // 2
    assert evaluate_axis(axis, _blind(clean, *free[:most])).details["left_out"]
    with pytest.raises(Unavailable, match=f"of {len(free)} free attributes can be read: "):
        evaluate_axis(axis, _blind(clean, *free[: most + 1]))


def test_a_child_s_head_is_too_large_and_pictures_without_a_head_say_nothing() -> None:
    clean, childish = seen("clean"), evidence(Faults(body="chibi"))
    assert abs(evaluate_axis("head_size", clean).interval.value) < 1
    found = evaluate_axis("head_size", childish)
    assert found.interval.low > 2 and found.details["judged"] == 1
    arm = childish.arm("L")
    gone = arm.parts.copy()
    gone[:, 1:, 1] = 0  # a head in the first picture of each prompt alone
    beheaded = dataclasses.replace(
        childish, arms=childish.arms | {"L": dataclasses.replace(arm, parts=gone)}
    )
    again = evaluate_axis("head_size", beheaded)
    assert again.details["judged"] < 0.5 and again.interval.low > 2
    nothing = dataclasses.replace(arm, parts=np.zeros_like(arm.parts))
    with pytest.raises(Unavailable, match="at least two prompts"):
        evaluate_axis(
            "head_size", dataclasses.replace(childish, arms=childish.arms | {"L": nothing})
        )
    references = dataclasses.replace(
        childish.references,
        features=dataclasses.replace(
            childish.references.features, parts=np.zeros_like(childish.references.features.parts)
        ),
    )
    with pytest.raises(
        Unavailable, match="full-body references with head and person detected, got 0"
    ):
        evaluate_axis("head_size", dataclasses.replace(childish, references=references))


def test_a_full_body_counts_where_the_framing_is_open_and_the_tagger_sees_one() -> None:
    childish = evidence(Faults(body="chibi"))
    told = evaluate_axis("body", childish).per_prompt
    asked = {prompt.id: prompt.asked.get("framing") for prompt in childish.prompts}
    column, arm = childish.columns["full body"], childish.arm("L")
    seen_bodies = dict(zip(asked, (arm.tags[..., column] >= 0.5).any(1).tolist(), strict=True))
    unasked = {id for id, value in asked.items() if value is None and seen_bodies[id]}
    assert unasked
    assert set(told) == unasked | {id for id, value in asked.items() if value == "full body"}
    blind = evaluate_axis("body", _blind(childish, "framing"))
    assert set(blind.per_prompt) == set(told) - unasked


def test_two_heads_are_a_design_error_where_somebody_counts() -> None:
    clean = seen("clean")
    arm = clean.arm("L")
    double = dataclasses.replace(
        clean, arms=clean.arms | {"L": dataclasses.replace(arm, heads=arm.heads + 1)}
    )
    found = evaluate_axis("design", double)
    assert found.details["traits"]["one head"] == {
        "checks": arm.heads.size,
        "violated": 1.0,
        "references": 0.0,
    }
    assert (
        found.interval.value == 1 and measured("clean", "design").interval.value < 0.1
    )  # one trait that is always wrong is a whole fault, not one of some twenty
    assert found.details["worst"] == "one head"
    assert measured("clean", "design").details["traits"]["one head"]["violated"] == 0
    own = dataclasses.replace(
        clean.references.features, heads=np.zeros_like(clean.references.features.heads)
    )
    uncounted = dataclasses.replace(
        double, references=dataclasses.replace(clean.references, features=own)
    )
    assert evaluate_axis("design", uncounted).details["traits"]["one head"]["checks"] == 0


@pytest.mark.parametrize(
    ("axis", "feature", "sign"), [("corruption", "corruption", 1), ("aesthetic", "aesthetic", -1)]
)
def test_what_a_classifier_says_more_of_than_on_the_base_counts(
    axis: str, feature: str, sign: int
) -> None:
    clean = seen("clean")
    arm = clean.arm("L")
    worse = dataclasses.replace(arm, **{feature: getattr(arm, feature) + 0.3})
    found = evaluate_axis(axis, dataclasses.replace(clean, arms=clean.arms | {"L": worse}))
    assert (
        found.interval.value == pytest.approx(0.3 * sign)
        and measured("clean", axis).interval.value == 0
    )
    unseen = {
        letter: dataclasses.replace(one, **{feature: np.full_like(one.grain, np.nan)})
        for letter, one in clean.arms.items()
    }
    with pytest.raises(Unavailable, match="classifier"):
        evaluate_axis(axis, dataclasses.replace(clean, arms=unseen))


def test_style_is_that_of_the_embedding_where_there_is_one() -> None:
    """An embedding that knows the styles reads what perfect tags read, and the tags are not asked
    any more."""
    styles = [seen("style").columns[tag] for tag in seen("style").vocabulary["style"].values()]

    def embedded(name: str) -> Evidence:
        def known(features: Features) -> Features:
            return dataclasses.replace(features, style=unit(features.tags[..., styles]))

        whole = seen(name)
        training = dataclasses.replace(whole.training, features=known(whole.training.features))
        arms = {
            k: dataclasses.replace(known(v), tags=v.tags[..., :0]) for k, v in whole.arms.items()
        }
        return dataclasses.replace(whole, arms=arms, training=training, columns={})

    assert evaluate_axis("style", embedded("clean")).interval.value < 0.1
    found = evaluate_axis("style", embedded("style"))
    assert found.interval.low > 0.8 and "pull_towards" not in found.details


def test_the_pull_of_a_style_is_told_by_subset() -> None:
    whole = evidence(Faults(unstyled="pixel art"))
    assert evaluate_axis("style", dataclasses.replace(whole, training=None)).details.keys() == {
        "pull",
        "pull_towards",
    }
    features = whole.training.features
    pixel = np.zeros(features.tags.shape[1])
    pixel[whole.columns[whole.vocabulary["style"]["pixel art"]]] = 1
    both = dataclasses.replace(
        features, tags=np.concatenate([features.tags[:10] * 0 + pixel, features.tags[10:]])
    )
    names = [f"{'pixels' if i < 10 else 'others'}/{i}.png" for i in range(len(features.tags))]
    found = evaluate_axis(
        "style", dataclasses.replace(whole, training=Training(both, names))
    ).details["pull_by_subset"]
    assert found["pixels"] > 0.7
    assert found["others"] is None or found["others"] < found["pixels"]


def test_drift_is_that_of_a_content_embedding_where_there_is_one() -> None:
    whole = seen("clean")
    rng = np.random.default_rng(1)
    base = unit(rng.normal(size=(*whole.arm("BN").grain.shape, 8)))
    blind = {
        k: dataclasses.replace(v, content=base, tags=v.tags[..., :0]) for k, v in whole.arms.items()
    }
    assert evaluate_axis(
        "drift", dataclasses.replace(whole, arms=blind)
    ).interval.value == pytest.approx(0, abs=1e-9)
    other = unit(rng.normal(size=base.shape))
    moved = blind | {"N": dataclasses.replace(blind["N"], content=other)}
    assert evaluate_axis(
        "drift", dataclasses.replace(whole, arms=moved)
    ).interval.value == pytest.approx(1, abs=0.2)
