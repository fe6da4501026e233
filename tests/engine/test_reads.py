"""A stage runs again when something that it reads has changed, and at no other time."""

import re
from pathlib import Path

import pytest

from onmodel.character import load_character
from onmodel.evaluate.axes import AXES
from onmodel.ledger import versions
from onmodel.stages import VERBS, stage_module
from tests.support.hollow_stages import Workplace, workplace

__all__ = ["workplace"]
ALL = ["data", "first", "drawn", "more", "second", "mixed", "measured", "chosen", "release"]
JUDGING = ["measured", "chosen", "release"]


def test_nothing_runs_twice(workplace: Workplace) -> None:
    assert workplace.run() == ALL
    assert workplace.run() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "Little"', 'title = "Little one"'),
        ("2026-11-22", "2027-01-01"),
    ],
)
def test_title_and_date_run_the_release_alone(workplace: Workplace, old: str, new: str) -> None:
    workplace.run()
    workplace.edit(workplace.recipe, old, new)
    assert workplace.run() == ["release"]


@pytest.mark.parametrize("word", ["disclaimer", "terms"])
def test_the_authors_words_run_the_release_alone(workplace: Workplace, word: str) -> None:
    workplace.run()
    text = workplace.sheet.read_text()
    said = re.search(f"^{word} = .*$", text, re.MULTILINE)
    assert said, text
    workplace.edit(workplace.sheet, said[0], f'{word} = "Other words."')
    assert workplace.run() == ["release"]


def test_a_forbidden_tag_is_measured_again_and_trains_nothing(workplace: Workplace) -> None:
    workplace.run()
    workplace.edit(workplace.sheet, "forbidden = [\n", 'forbidden = [\n  "third eye",\n')
    assert workplace.run() == JUDGING


def test_another_trigger_trains_again(workplace: Workplace) -> None:
    workplace.run()
    workplace.edit(workplace.sheet, 'trigger = "backgwa"', 'trigger = "backgwa2"')
    assert workplace.run() == ALL


def test_other_threads_leave_data_sets_as_they_are(workplace: Workplace) -> None:
    workplace.run()
    workplace.edit(workplace.recipe, "threads = 1", "threads = 2")
    assert workplace.run() == [name for name in ALL if name != "data"]


def test_a_new_version_of_an_axis_measures_again_and_trains_nothing(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.run()
    monkeypatch.setitem(versions.AXES, "drift", versions.AXES["drift"] + 1)
    assert workplace.run() == JUDGING


def test_a_new_version_of_a_verb_runs_its_stages_and_what_follows(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.run()
    monkeypatch.setitem(versions.VERBS, "merge", versions.VERBS["merge"] + 1)
    assert workplace.run() == ["mixed", *JUDGING]


def test_the_table_of_versions_names_every_verb_and_every_axis() -> None:
    assert list(versions.VERBS) == list(VERBS) and set(versions.AXES) == set(AXES)
    assert [stage_module(verb).READS.verb for verb in VERBS] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_stage_reads_no_more_of_the_recipes_head_than_it_declares(verb: str) -> None:
    module = stage_module(verb)
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert set(re.findall(r"context\.(seed|date|threads)\b", text)) <= set(module.READS.head)


def test_what_a_stage_does_not_declare_of_the_sheet_it_cannot_read(workplace: Workplace) -> None:
    part = load_character(workplace.sheet).only(("trigger", "forbidden"))
    assert part.trigger == "backgwa" and part.forbidden
    with pytest.raises(AttributeError):
        part.required  # noqa: B018
