"""Which model is what in a run."""

from dataclasses import replace

from onmodel.evaluate.headlines import label
from onmodel.report.source import ReportSource
from onmodel.report.verdict import verdict


def test_roles_follow_from_the_recipe(source: ReportSource) -> None:
    assert {name: source.role(name) for name in source.measured} == {
        "preview@20": "earlier",
        "release_1@20": "earlier",
        "release_2@30": "candidate",
        "release_2@40": "candidate",
        "merged": "merge",
        "refined@5": "refined",
        "refined@10": "final",
    }


def test_what_was_imported_is_what_the_shown_model_is_held_against(source: ReportSource) -> None:
    stages = {**source.stages, "preview": {"do": "import", "file": "theirs.safetensors"}}
    compared = replace(source, stages=stages)
    assert compared.role("preview@20") == "imported" and "preview@20" in compared.earlier
    assert any(sentence.startswith("Better than Preview @20 ") for sentence in verdict(compared))


def test_ancestors_are_the_start_and_what_was_merged_into_it(source: ReportSource) -> None:
    assert source.ancestors == [
        "merged",
        "preview@20",
        "release_1@20",
        "release_2@30",
        "release_2@40",
    ]


def test_a_start_from_a_choice_leads_to_what_was_chosen(source: ReportSource) -> None:
    stages = {**source.stages, "refined": {"do": "train", "start": "five"}}
    assert replace(source, stages=stages).ancestors == [
        "preview@20",
        "release_1@20",
        "release_2@30",
        "release_2@40",
    ]


def test_without_a_release_the_last_measured_model_is_shown(source: ReportSource) -> None:
    unreleased = replace(source, final=None, confirm=None)
    assert (unreleased.shown, unreleased.published_name) == ("refined@10", "fresh")
    assert replace(unreleased, evaluations={}).shown is None


def test_labels() -> None:
    assert [label(name) for name in ("release_2@30", "merged", "SDXL_old")] == [
        "Release 2 @30",
        "Merged",
        "SDXL old",
    ]


def test_axes_print_their_numbers(source: ReportSource) -> None:
    assert source.published is not None
    axes = source.published.axes
    assert axes["reproduction"].span(0.5, 0.75) == "0.50\N{HORIZONTAL ELLIPSIS}0.75"
    assert axes["colour_cast"].text(2.04) == "+2.0"
    assert axes["style"].text(0.25) == "0.25"
    assert axes["colour_cast"].cost(-5.0) == 0.5
    assert axes["reproduction"].cost(1.0) == 0
