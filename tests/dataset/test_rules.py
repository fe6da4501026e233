"""How subsets are shown: what is said where, and that no two ways of showing share a written
form."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from onmodel.dataset.rules import DataConfig, SubsetConfig

SAID = st.fixed_dictionaries(
    {},
    optional={
        "resolution": st.sampled_from([512, (512, 768), 1024]),
        "enlarge": st.booleans(),
        "keep_tokens": st.integers(0, 3),
        "shuffle_tags": st.booleans(),
        "tag_dropout": st.sampled_from([0.0, 0.1]),
        "flip": st.booleans(),
        "bucket_step": st.sampled_from([None, 32]),
        "repeats": st.integers(1, 3),
        "loss_weight": st.sampled_from([1.0, 0.5]),
    },
)
RUN = SAID.map(lambda table: {key: table[key] for key in table if key in DataConfig.model_fields})


def resolved(run: dict[str, Any], file: dict[str, Any], share: dict[str, Any]) -> SubsetConfig:
    return SubsetConfig(**share).over(DataConfig(**run), file)


@given(RUN, SAID, SAID)
def test_a_share_comes_before_the_file_and_the_file_before_the_run(
    run: dict[str, Any], file: dict[str, Any], share: dict[str, Any]
) -> None:
    shown = resolved(run, file, share)
    for name, field in SubsetConfig.model_fields.items():
        assert getattr(shown, name) == (run | file | share).get(name, field.default), name
    assert set(shown.model_dump()) == set(SubsetConfig.model_fields)


@settings(max_examples=300)
@given(st.tuples(RUN, SAID, SAID), st.tuples(RUN, SAID, SAID), st.integers(0, 2), st.data())
def test_what_is_written_down_decides_what_is_shown(
    tables: tuple[dict[str, Any], ...],
    others: tuple[dict[str, Any], ...],
    place: int,
    data: st.DataObject,
) -> None:
    """Stages are skipped by their written settings: whatever changes, it is written differently or
    shown alike."""

    def written(run: dict[str, Any], file: dict[str, Any], share: dict[str, Any]) -> Any:
        return (
            DataConfig(**run).model_dump(),
            SubsetConfig(**file).model_dump(),
            SubsetConfig(**share).model_dump(),
        )

    changed = list(tables)
    names = sorted({*others[place], *tables[place]})
    name = data.draw(st.sampled_from(names)) if names else ""
    changed[place] = {key: value for key, value in tables[place].items() if key != name}
    changed[place] |= {key: value for key, value in others[place].items() if key == name}
    if resolved(*tables) != resolved(*changed):
        assert written(*tables) != written(*changed)


def test_a_said_default_is_not_the_same_as_nothing_said() -> None:
    assert SubsetConfig(keep_tokens=2).model_dump() == {"keep_tokens": 2}
    assert SubsetConfig().model_dump() == {}
    run = DataConfig(keep_tokens=5)
    assert (
        SubsetConfig(keep_tokens=2).over(run).keep_tokens == 2
        and SubsetConfig().over(run).keep_tokens == 5
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"resolution": []}, "different numbers of pixels"),
        ({"resolution": [512, 512]}, "different numbers of pixels"),
        ({"resolution": 16}, "from 32 to 8192"),
        ({"bucket_step": 24}, "multiple of 16"),
        ({"bucket_sides": [1024, 512]}, "shortest and the longest"),
        ({"repeats": 0}, "greater than or equal to 1"),
        ({"loss_weight": -1}, "greater than or equal to 0"),
        ({"flips": True}, "Extra inputs"),
    ],
)
def test_wrong_rules(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SubsetConfig.model_validate(table)
