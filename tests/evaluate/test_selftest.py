"""The selftest on the toon world's own observers: it finds what is planted, and its table says what
does not hold."""

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.observers import Observers, load_observers
from onmodel.evaluate.selftest import check, null
from onmodel.evaluate.selftest.check import CheckRow, selftest
from onmodel.evaluate.selftest.drawn import SIDE, Faults, picture
from onmodel.evaluate.selftest.faults import PLANTED
from onmodel.evaluate.selftest.null import AxisLevel
from onmodel.evaluate.selftest.page import table
from onmodel.events import Events
from onmodel.toon.attributes import BACKGWA, OTHER
from onmodel.toon.draw import draw


@lru_cache
def observers() -> Observers:
    return load_observers("toon", {}, threads=1)


@pytest.fixture(scope="module")
def rows() -> list[CheckRow]:
    """Three faults at two seeds a prompt."""
    some = {id: PLANTED[id] for id in ("yellow_veil", "same_coat", "no_trigger")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "PLANTED", some)
        patch.setattr(check, "SEEDS", 2)
        return selftest(observers(), 5, Events())


def test_every_axis_has_a_planted_fault() -> None:
    without = {"aesthetic"}  # the toon world has no taste
    assert {axis for planted in PLANTED.values() for axis in planted.moves} == set(AXES) - without
    for id, planted in PLANTED.items():
        assert planted.related <= set(AXES) - set(planted.moves), id


def test_the_planted_faults_are_found_with_sign_and_size(rows: list[CheckRow]) -> None:
    assert {row.axis for row in rows} == {
        "colour_cast",
        "colour_area",
        "outfit_change",
        "outfit_leak",
        "drift",
    }
    for row in rows:
        assert row.alive >= 0.75 and row.found * np.sign(row.expected) >= abs(row.expected), (
            row.axis
        )
        assert row.low * row.high > 0 and not {"found", "dose", "alive"} & set(row.failed)


def test_twins_and_nulls_tie(rows: list[CheckRow]) -> None:
    assert min(row.twins_p for row in rows) > 0.05 and min(row.null_p for row in rows) > 0.05


def test_a_column_that_does_not_hold_is_named(rows: list[CheckRow]) -> None:
    row = next(row for row in rows if row.axis == "colour_cast")
    assert check._failed(row) == ()
    worse = replace(
        row,
        found=-row.found,
        twins_p=0.01,
        jpeg=0.3,
        loudest=("same_coat", -0.2),
        doses=(0.0, 9.0, 5.0, 10.0),
    )
    assert check._failed(worse) == ("twins", "found", "neighbours", "dose", "jpeg")
    page = table(5, [replace(row, failed=("jpeg",))])
    assert (
        "| jpeg |" in page
        and "0 of 1 rows hold" in page
        and "Without a planted fault: aesthetic, body" in page
    )


def test_the_command_prints_the_table_or_json(
    monkeypatch: pytest.MonkeyPatch, rows: list[CheckRow]
) -> None:
    monkeypatch.setattr(check, "selftest", lambda observers, seed, events: rows)
    told = CliRunner().invoke(app, ["metrics", "selftest", "--seed", "3", "--seed", "4"]).stdout
    assert "Seed 3" in told and "Seed 4" in told and "| `drift` |" in told
    found = json.loads(CliRunner().invoke(app, ["metrics", "selftest", "--json"]).stdout)
    assert [row["axis"] for row in found["0"]] == [row.axis for row in rows]
    listed = CliRunner().invoke(app, ["metrics", "list"]).stdout
    assert len(listed.splitlines()) == len(AXES)


def test_the_null_option_prints_the_level_of_every_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    def levels(observers: Observers, name: str, pairs: int, seed: int, events: Events) -> list:
        rows = [("style", 24, 0.045), ("memorisation", 0, 0.0)]
        return [AxisLevel(axis, name, n, pairs, alarms) for axis, n, alarms in rows]  # type: ignore[arg-type]

    monkeypatch.setattr(null, "null_levels", levels)
    printed = CliRunner().invoke(app, ["metrics", "selftest", "--null"]).stdout
    assert "| confirm | thorough |" in printed and "400 pairs" in printed
    assert "| `style` | 4.5 | 4.5 |" in printed
    assert "| `memorisation` | no difference | no difference |" in printed
    found = CliRunner().invoke(app, ["metrics", "selftest", "--null", "--pairs", "200", "--json"])
    assert json.loads(found.stdout)["confirm"][0]["pairs"] == 200
    assert CliRunner().invoke(app, ["metrics", "selftest", "--null", "--pairs", "9"]).exit_code


def test_the_right_character_is_nearer_than_another() -> None:
    situations = [(e, f) for e in ("smile", "sad", "angry") for f in ("close-up", "upper body")]
    toons = [
        character.toon(expression=expression, framing=framing, nuisance=7 * i)
        for character in (BACKGWA, OTHER)
        for i, (expression, framing) in enumerate(situations)
    ]
    identity = observers().identity
    assert identity is not None
    found = identity.differences(*[identity([draw(toon, SIDE, SIDE) for toon in toons])] * 2)
    own, cross = found[:6, :6][~np.eye(6, dtype=bool)], found[:6, 6:]
    assert np.mean(own.ravel()[:, None] < cross.ravel()[None]) > 0.95


def test_what_is_drawn_is_what_the_faults_say() -> None:
    words = "1girl, backgwa, dress, upper body, forest"
    clean = picture(words, 1, Faults())[1]
    assert clean.outfit == "dress" and clean.background == "forest" and clean.ears == "cat ears"
    assert picture(words, 1, Faults(outfit="jacket"))[1].outfit == "jacket"
    assert picture(words, 1, Faults(tied=True))[1].expression == "angry"
    assert picture("1girl", 1, Faults())[1] == picture("1girl", 1, None)[1]
    assert picture("1girl", 1, Faults(leak=True))[1].ears == "cat ears"
    assert picture(words, 1, Faults(stream="other"))[1].nuisance != clean.nuisance
    still, grainy = (
        np.asarray(picture(words, 1, Faults(noise=noise))[0], dtype=float) for noise in (0.0, 16.0)
    )
    assert 8 < (still - grainy).std() < 20
