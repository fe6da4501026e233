"""The card: its sections, its numbers, and the linter that finds a changed one."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.axes import JOININGS
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.prompt_syntax import plain
from onmodel.release.card import Card, card_facts
from onmodel.release.licences import BASES
from onmodel.release.sidecars import samples, triggers, webui_sidecar
from onmodel.release.tables import (
    CONTROL,
    ReleaseResult,
    changes_csv,
    lint_card,
    lint_tables,
    result,
    two_decimals,
    unavailable,
    values,
    values_csv,
)
from onmodel.sample.sampling import Sampling
from tests.support.release_history import CHOICE, NAMES, character, evaluation, history

SAMPLING = Sampling(steps=2, guidance=3.0, shift=3.0, width=32, height=32)
SECTIONS = [
    "Disclaimer",
    "Trigger word",
    "Usage",
    "Licence",
    "What changed",
    "Results",
    "Data",
    "Training",
    "Research and experiments",
    "Merge",
    "Notes and known limits",
    "Files",
]


def card(base_name: str = "toon", **changed: Any) -> str:
    numbers = evaluation()
    shown = samples(character(), numbers.plan, 6)
    parts = {
        "title": "BACKGWA Release 2",
        "file_name": "backgwa-release-2",
        "date": "2026-11-22",
        "payload_sha256": "a" * 64,
        "character": character(),
        "base_name": base_name,
        "base": BASES[base_name],
        "sampling": SAMPLING,
        "samples": shown,
        "triggers": triggers(character(), SAMPLING, shown),
        "evaluation": numbers,
        "model": "refined@15",
        "previous": "release_1@20",
        "result": result(numbers, "refined@15", "release_1@20"),
        "lineage": history(),
        "train_notes": "Sleeves may merge.\n",
    } | changed
    return Card(**parts).render()


def front_matter(text: str) -> dict[str, Any]:
    return ModelCard(text).data.to_dict()


def test_front_matter_is_what_the_hub_reads() -> None:
    head = front_matter(card("anima"))
    assert head["license"] == "other"
    assert head["license_name"] == "circlestone-labs-non-commercial-license"
    assert head["license_link"].startswith("https://")
    assert head["base_model"] == "circlestone-labs/Anima"
    assert head["base_model_relation"] == "adapter"
    assert head["library_name"] == "diffusers"
    assert head["pipeline_tag"] == "text-to-image"
    assert head["instance_prompt"] == "1girl, backgwa, blue jacket, white shirt"
    assert {"text-to-image", "lora", "diffusers", "template:sd-lora", "anima", "comfyui"} <= set(
        head["tags"]
    )
    assert len(head["widget"]) == 6
    assert head["widget"][0]["output"]["url"] == "images/outfit-default.png"
    toon = front_matter(card())
    assert toon["license"] == "mit" and "license_name" not in toon
    adult = character().model_copy(update={"rating": "explicit"})
    assert "not-for-all-audiences" in front_matter(card(character=adult))[
        "tags"
    ] and "Rating: explicit" in card(character=adult)
    assert "not-for-all-audiences" not in toon["tags"]


def test_sections_stand_in_order_and_nothing_is_left_unsaid() -> None:
    text = card()
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert (
        "She depicts nobody." in text
        and "Share the pictures as you like." in text
        and "Sleeves may merge." in text
    )
    assert "\n\n\n" not in text
    for line in text.splitlines():
        assert not re.search(r"\{\{|\}\}|\{%|None|Undefined", line), line
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({row.replace(r"\|", "").count("|") for row in block.splitlines()}) == 1, block


def test_what_the_card_tells_of_the_history() -> None:
    text = card()
    assert "`release_2` 4 × 40" in text
    assert "97.1 % of its energy" in text
    assert "96 pictures generated" in text and "16 kept" in text
    assert "unknown origin" in text and "f" * 12 in text
    assert "was not measured: arm N was not generated" in text
    assert "10 models measured on suite `choose-cd34ef56` (12 prompts × 2 seeds)." in text
    assert "on which nothing was chosen" in text and "flatter" not in text
    numbers = replace(evaluation(), signature=CHOICE.replace("S:2", "S:4"))  # the same prompts
    assert "flatter" in card(evaluation=numbers) and "on which nothing was chosen" not in card(
        evaluation=numbers
    )
    first = card(previous=None, result=ReleaseResult(), lineage=history())
    assert "What changed" not in first and "Every axis" not in first


def lint(text: str, numbers: Evaluation | None = None) -> int:
    numbers = numbers or evaluation()
    compared = result(numbers, "refined@15", "release_1@20")
    sets = triggers(character(), SAMPLING, samples(character(), numbers.plan, 6))
    return lint_card(text, numbers, compared, card_facts(numbers, history(), sets))


def test_every_number_is_one_of_the_tables() -> None:
    assert lint(card()) > len(values(evaluation()))
    assert lint(card("anima")) > len(values(evaluation()))


@pytest.mark.parametrize("which", range(12))
def test_a_changed_number_is_found(which: int) -> None:
    """Any digit of any value or bound, in the lists and in both tables."""
    text = card()
    places = [m.start(1) + 1 for m in re.finditer(r"(\d\.\d\d) \[", text)] + [
        m.end() - 2 for m in re.finditer(r"\d\.\d\d\]", text)
    ]
    place = places[which * len(places) // 12]
    digit = next(i for i in range(place, len(text)) if text[i].isdigit())
    tampered = text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :]
    with pytest.raises(VerifyError, match=r"README\.md, line \d+"):
        lint(tampered)


def _raised(row: EvaluatedModel, axis: str) -> EvaluatedModel:
    score = row.scores[axis]
    return replace(row, axes={**row.axes, axis: replace(score, value=score.value + 0.02)})


@pytest.mark.parametrize("number", range(len(values(evaluation()))))
def test_a_changed_table_is_found(number: int) -> None:
    """Any value of any model, the control too: the card does not say it, or says another one."""
    numbers = evaluation()
    one = values(numbers)[number]
    name = "D" if one.model == CONTROL else one.model
    models, controls = (
        [_raised(row, one.axis) if row.name == name else row for row in rows]
        for rows in (numbers.models, numbers.controls.values())
    )
    numbers = replace(numbers, models=models, controls={row.name: row for row in controls})
    with pytest.raises(VerifyError, match="README"):
        lint(card(), numbers)


@pytest.mark.parametrize(
    "line",
    [
        "She is right in 87 of 100 pictures.",
        "The score is 0.93.",
        "Hit rate: 87.5 %.",
        "| a | b |\n|---|---|\n| 41 pictures | x |",
    ],
)
def test_a_number_that_no_table_and_no_record_has_is_found(line: str) -> None:
    with pytest.raises(VerifyError, match="stands in no table and in no record"):
        lint(card() + line + "\n")
    assert lint(
        card() + f"> {line.splitlines()[0]}\n"
    )  # the author's own words, and marked as such


def test_a_number_may_stand_in_the_reason_why_an_axis_was_not_measured() -> None:
    numbers = evaluation()
    row = numbers.model("refined@15")
    axis = next(iter(unavailable(numbers, row.name)))
    why = "too few pictures show it (AUC 0.57, 0.27…0.86, on 12 pictures)"
    changed = replace(row, axes={**row.axes, axis: replace(row.axes[axis], why=why)})
    models = [changed if one is row else one for one in numbers.models]
    numbers = replace(numbers, models=models)
    assert "AUC 0.57" in card(evaluation=numbers)
    assert lint(card(evaluation=numbers), numbers)


def test_a_p_value_is_the_tests_own() -> None:
    text = card()
    said = re.search(r"now; (p [<=] 0\.\d+)", text)
    assert said
    with pytest.raises(VerifyError, match="is not the change"):
        lint(text.replace(said[1], "p = 0.049", 1))


def test_the_card_says_the_result_in_at_most_six_changes_and_what_to_do() -> None:
    wanted = result(evaluation(), "merged", "refined@15").sentences
    compared = result(evaluation(), "merged", "refined@15")
    text = card(model="merged", previous="refined@15", result=compared)
    said = re.search(r"^## What changed\n\n(.+)\n\n((?:- .+\n)+)", text, re.M)
    assert said and said[1].startswith("Compared with `refined@15`")
    lines = said[2].splitlines()
    assert [line.replace("\\", "") for line in lines] == [f"- {one}" for one in wanted]
    changes = [line for line in lines if line.startswith("- Worse than Refined @15 on ")]
    assert 1 < len(changes) <= 6 and "Lower the learning rate" not in text
    assert any(line.endswith("Add pictures with other poses and framings.") for line in changes)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda line: re.sub(r"\d", lambda found: str((int(found[0]) + 1) % 10), line, count=1),
        lambda line: line.replace("Better", "Worse"),
        lambda line: "",
        lambda line: f"{line}\n{line}",
        lambda line: f"{line}\n- Better than Release 1 @20 on every axis.",
        lambda line: f"{line}\n* Better than Release 1 @20 on every axis.",
        lambda line: f"{line}\n  - Better than Release 1 @20 on every axis.",
        lambda line: f"{line}\n\nBetter than everything.",
    ],
)
def test_a_changed_sentence_is_found(tamper: Callable[[str], str]) -> None:
    text = card()
    line = re.findall(r"^- Better than .+$", text, re.M)[2]
    with pytest.raises(VerifyError, match=r"sentence|does not say"):
        lint(text.replace(line, tamper(line)))


def test_the_order_of_the_sentences_is_the_evaluations() -> None:
    text = card()
    first, second = re.findall(r"^- Better than .+$", text, re.M)[:2]
    with pytest.raises(VerifyError, match="is no sentence"):
        lint(text.replace(f"{first}\n{second}", f"{second}\n{first}"))


def test_a_number_of_another_model_or_axis_is_found() -> None:
    text, known = card(), {(row.axis, row.model): row.text for row in values(evaluation())}
    good, poor = known["reproduction", "refined@15"], known["reproduction", "preview@20"]
    with pytest.raises(VerifyError):
        lint(text.replace(good, poor))
    with pytest.raises(VerifyError):
        lint(text + f"Better than ever: {good}\n")
    assert lint(text + f"Reproduction stability of `refined@15` is {good}.\n") == lint(text) + 1


def test_the_csv_files_are_held_against_the_evaluation() -> None:
    numbers = evaluation()
    compared = result(numbers, "refined@15", "release_1@20").changes
    tables = {
        "evaluation/table.csv": values_csv(values(numbers)),
        "evaluation/changes.csv": changes_csv(compared),
    }
    lint_tables(numbers, compared, tables)
    for name, text in tables.items():
        place = text.rindex("0.") + 4
        wrong = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        with pytest.raises(VerifyError, match=name):
            lint_tables(numbers, compared, {**tables, name: wrong})


def test_verdicts_follow_the_paired_test() -> None:
    def outcomes(model: str, previous: str) -> set[str]:
        """Of axes with independent prompts: this made-up file holds no rows of the joint ones."""
        rows = result(evaluation(), model, previous).changes
        return {row.outcome for row in rows if row.axis not in JOININGS}

    assert outcomes("refined@15", "release_1@20") == {"better", "open"}
    assert outcomes("release_1@20", "refined@15") == {"worse", "open"}
    measured = evaluation()
    twin = replace(measured.model("merged"), name="twin")
    same = result(replace(measured, models=[*measured.models, twin]), "merged", "twin").changes
    assert {row.outcome for row in same if row.axis not in JOININGS} == {"same"}
    with pytest.raises(InputError, match="was not measured"):
        result(evaluation(), "merged", "release_0")


def test_tables_hold_every_value_in_full() -> None:
    rows = list(csv.DictReader(values_csv(values(evaluation())).splitlines()))
    assert {row["model"] for row in rows} == {*NAMES, "control"}
    assert float(rows[0]["value"]) == values(evaluation())[0].value
    lines = changes_csv(result(evaluation(), "refined@15", "release_1@20").changes).splitlines()
    assert lines[0].split(",")[:4] == ["axis", "previous", "this", "outcome"]
    assert two_decimals(-0.001) == "0.00"


def test_triggers_and_sidecar() -> None:
    shown = samples(character(), evaluation().plan, 6)
    sets = triggers(character(), SAMPLING, shown)
    assert [row["id"] for row in sets] == ["default", "beach"]
    assert sets[1]["text"] == "1girl, backgwa, dress"
    assert sets[1]["sample"] == "images/outfit-beach.png"
    assert len({sample.file for sample in shown}) == len(shown) == 6
    assert (
        len({sample.file.split("/")[1].split("-")[0] for sample in shown[2:]}) == 4
    )  # one of each kind in turn
    assert len(samples(character(), evaluation().plan, 1)) == 2  # every outfit is shown
    side = webui_sidecar(character(), BASES["toon"], SAMPLING, "see README.md")
    assert side["activation text"] == sets[0]["text"] and side["preferred weight"] == 1.0


def test_triggers_are_escaped_for_prompts() -> None:
    sheet = character().model_copy(update={"trigger": "wolf (toon)"})
    shown = samples(sheet, evaluation().plan, 2)
    sets = triggers(sheet, SAMPLING, shown)
    assert sets[0]["text"].startswith(r"1girl, wolf \(toon\), ")
    assert (
        webui_sidecar(sheet, BASES["toon-sdxl"], SAMPLING, "")["activation text"] == sets[0]["text"]
    )
    assert "1girl, wolf (toon), " in plain(shown[0].prompt)


def test_chosen_prompts_come_first_and_unknown_ones_are_refused() -> None:
    plan = evaluation().plan
    *_, one, other = [prompt.id for prompt in plan.prompts]
    outfits = len(samples(character(), plan, 1))
    shown = samples(character(), plan, outfits + 3, [other, one])
    texts = {prompt.id: prompt.text["L"] for prompt in plan.prompts}
    assert [row.prompt for row in shown[outfits:][:2]] == [texts[other], texts[one]]
    assert len(shown) == outfits + 3 and len({row.file for row in shown}) == len(shown)
    with pytest.raises(InputError, match="sample_prompts: nothing — the evaluation has"):
        samples(character(), plan, 3, ["nothing"])


def test_minors_with_sexual_content_are_refused_in_every_sample() -> None:
    sheet = character().model_copy(update={"rating": "explicit", "tags": [], "count_tag": "child"})
    with pytest.raises(InputError, match="refused"):
        samples(sheet, evaluation().plan, 6)


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>",
        "<img src=a onerror=x>",
        "[a](javascript:x)",
        "a | b",
        "`<b>`",
        "a\n\n# b <i>",
    ],
)
def test_no_name_of_a_stranger_is_html_or_markup_in_the_card(text: str) -> None:
    sheet = character()
    author = sheet.author.model_copy(
        update=dict.fromkeys(("name", "disclaimer", "terms", "credits"), text)
    )
    outfits = [
        outfit.model_copy(update={"label": text, "tags": [text]}) for outfit in sheet.outfits
    ]
    changed = {
        "name": text,
        "description": text,
        "author": author,
        "outfits": outfits,
        "trigger": text,
    }
    sheet = sheet.model_copy(update=changed)
    lineage = {
        id: node | ({"name": text} if "name" in node else {}) for id, node in history().items()
    }
    numbers = evaluation()
    shown = triggers(sheet, SAMPLING, samples(sheet, numbers.plan, 6))
    made = card(
        title=text,
        character=sheet,
        triggers=shown,
        train_notes=text,
        lineage=lineage,
        model="refined@15",
    )
    head, body = made.split("\n---\n", 1)
    assert len(front_matter(made)["widget"]) == 6 and "\nlicense:" in head
    prose = re.sub(r"```.*?```|(?<!\\)`[^`\n]*`|<Gallery />|<https://[^>]*>", "", body, flags=re.S)
    assert not re.search(r"<[a-z!/]|(?<!\\)\]\(javascript", prose)
    tables = re.findall(r"(?:^\|.*\n)+", body, re.M)
    for rows in tables:
        assert len({re.sub(r"\\\\|\\\|", "", row).count("|") for row in rows.splitlines()}) == 1, (
            rows
        )


def test_a_model_named_like_a_formula_is_text_in_the_tables() -> None:
    numbers = evaluation()
    first = replace(numbers.models[0], name="=cmd|' /C calc'!A0")
    numbers = replace(numbers, models=[first, *numbers.models[1:]])
    rows = list(csv.reader(values_csv(values(numbers)).splitlines()))
    assert any(row[0].startswith("'=cmd") for row in rows)
    assert all(not row[0].startswith(("=", "+", "-", "@")) for row in rows)
    lint_tables(numbers, [], {"evaluation/table.csv": values_csv(values(numbers))})
