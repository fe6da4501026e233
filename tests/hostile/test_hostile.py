"""Hostile input ends in one line, in time, in bounded memory, and changes nothing but the output folder."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.hostile.case import Case
from tests.hostile.judging import Servers, faults_of

if sys.platform != "linux":
    pytest.skip("limits of memory and time are set as Linux knows them", allow_module_level=True)

KINDS = (
    "pictures",
    "names",
    "captions",
    "zips",
    "loras",
    "configs",
    "recipes",
    "observers",
    "releases",
    "workshops",
    "state",
)
CASES: dict[str, Case] = {}
for kind in KINDS:
    for case in import_module(f"tests.hostile.{kind}").CASES:
        assert case.id not in CASES, case.id
        CASES[case.id] = case


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.mark.parametrize("id", CASES)
def test_a_hostile_input_ends_well(id: str, servers: Servers, tmp_path: Path) -> None:
    faults, _ = faults_of(CASES[id], servers, tmp_path / "c")
    assert not faults, "\n".join([id, *faults])


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 180
