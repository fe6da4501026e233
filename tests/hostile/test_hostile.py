"""Hostile input ends in one line, in bounded time and memory; only the output folder changes."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import (
    captions,
    configs,
    loras,
    names,
    observers,
    pictures,
    recipes,
    releases,
    state,
    workshops,
    zips,
)
from tests.hostile.case import Case
from tests.hostile.judging import Server, faults_of

if sys.platform != "linux":
    pytest.skip("limits of memory and time are set as Linux knows them", allow_module_level=True)

KINDS = (
    pictures,
    names,
    captions,
    zips,
    loras,
    configs,
    recipes,
    observers,
    releases,
    workshops,
    state,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def each(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def judge(case: Case, server: Server, folder: Path) -> None:
    faults = faults_of(case, server, folder / "c")
    assert not faults, "\n".join([case.id, *faults])
    shutil.rmtree(folder / "c")


@each(pictures.CASES)
def test_hostile_pictures(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(names.CASES)
def test_hostile_names(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(captions.CASES)
def test_hostile_captions(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(zips.CASES)
def test_hostile_zips(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(loras.CASES)
def test_hostile_loras(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(configs.CASES)
def test_hostile_configs(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(recipes.CASES)
def test_hostile_recipes(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(observers.CASES)
def test_hostile_observers(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(releases.CASES)
def test_hostile_releases(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(workshops.CASES)
def test_hostile_workshops(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


@each(state.CASES)
def test_damaged_state_is_named(case: Case, server: Server, tmp_path: Path) -> None:
    judge(case, server, tmp_path)


def test_the_corpus_is_large_and_each_case_has_its_name() -> None:
    ids = [case.id for kind in KINDS for case in kind.CASES]
    assert len(ids) == len(set(ids)) >= 900


def test_the_judging_itself_finds_faults(server: Server, tmp_path: Path) -> None:
    """A command that writes elsewhere, and does not end as expected, is caught."""
    from tests.hostile.case import Place, run

    def build(place: Place) -> None:
        place.put("a.png", pictures.encoded(), below="pictures")

    wrong = Case(
        "wrong",
        build,
        (
            run(
                "dataset",
                "import",
                "{in}/pictures",
                "--out",
                "{elsewhere}/work",
                codes=(2,),
                says=("nobody",),
            ),
        ),
    )
    text = "\n".join(faults_of(wrong, server, tmp_path / "c"))
    assert (
        "exit code 0, not 2" in text
        and "does not name 'nobody'" in text
        and "elsewhere/work" in text
    )
    assert os.listdir(tmp_path / "c" / "out") == []
