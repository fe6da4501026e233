"""`onmodel settings`, and that every setting says what it means."""

import json

import pytest
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.errors import InputError
from onmodel.stages import VERBS
from onmodel.stages.catalogue import settings_of


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_has_a_meaning(verb: str) -> None:
    rows = settings_of(verb)
    assert rows
    for row in rows:
        where = f"{verb} {row.table} {row.name}"
        assert row.meaning.endswith((".", ").")) and row.meaning[0] not in " abc", where
        assert len(row.meaning) < 180, where
        if row.default == "unset":  # what happens then is said, here or with its neighbours
            told = any(word in row.meaning for word in ("Unset", "Without", "MB", "keep"))
            assert told or row.name in UNSET_IS_NOTHING, where


# Settings that simply do nothing while they are unset.
UNSET_IS_NOTHING = {
    *("masks", "toon", "folder", "stage", "dataset", "subset", "references", "blocks"),
    *("dataset_config", "train_data_dir", "reg_data_dir", "license_file"),
}


def show(*words: str) -> str:
    result = CliRunner().invoke(app, ["settings", *words])
    if result.exception:
        raise result.exception
    return result.stdout


def test_a_verb_and_a_field_are_shown_with_type_default_and_meaning() -> None:
    (row,) = json.loads(show("train.rank", "--json"))[:1]
    assert (row["type"], row["default"]) == ("int", "32") and "adapter" in row["meaning"]
    line = next(line for line in show("train").splitlines() if line.startswith("train.epochs"))
    assert "required" in line and "Number of epochs." in line
    assert {row["verb"] for row in json.loads(show("--json"))} == set(VERBS)


@pytest.mark.parametrize(
    ("what", "said"), [("trian", "use train"), ("train.rnak", "train has rank")]
)
def test_a_mistyped_name_is_told_the_nearest(what: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        show(what)
