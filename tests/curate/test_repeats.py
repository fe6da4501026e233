"""Which of two repeats is excluded, and which labels a choice can ask for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.curate.actions import choose_pictures, plan_repeats
from onmodel.curate.audit import _repeats
from onmodel.curate.coverage import CountedPicture, audit_coverage
from onmodel.curate.decisions import fix_findings
from onmodel.curate.duplicates import Kind, Link
from onmodel.curate.gather import gather
from onmodel.curate.labels import Sight
from onmodel.curate.settings import ChooseSettings, ObserverSettings
from onmodel.curate.vocabulary import vocabulary_for
from onmodel.curate.workshop import Decision, Piece, open_workshop
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import write_json
from tests.support.contexts import CHARACTER


def piece(name: str, folder: Path, side: int = 64, suffix: str = ".png") -> Piece:
    path = folder / f"{name}{suffix}"
    path.write_bytes(b"x" * len(name))
    return Piece(f"set/{name}", path, name, side, side, "set", (), "", "", "")


def link(part: int, whole: int, kind: Kind = "near") -> Link:
    return Link(part, whole, kind, (0, 0, 1, 1), 0.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_of_one_size_the_one_without_loss_stays(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    pieces = [piece("small-jpeg", tmp_path, suffix=".jpg"), piece("png", tmp_path)]
    (found,) = _repeats(pieces, [link(*order)], [])
    assert (found.picture, found.subject) == ("set/small-jpeg", "set/png")


def test_of_linked_repeats_one_always_stays(tmp_path: Path) -> None:
    pieces = [piece("a", tmp_path, 64), piece("b", tmp_path, 96), piece("c", tmp_path, 80)]
    links = [link(0, 1), link(1, 2, "crop"), link(2, 0, "crop"), link(1, 0, "crop")]
    excluded = {row.picture for row in _repeats(pieces, links, []) if row.fix}
    assert 0 < len(excluded) < 3


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"{i}.png")
        (tmp_path / "set" / f"{i}.txt").write_text("1girl, backgwa, frown" if i < 2 else "1girl")
    gather([tmp_path / "set"], tmp_path / "work", "", "", Events())
    return tmp_path / "work"


def test_a_repeat_of_what_is_excluded_already_stays(work: Path) -> None:
    pieces = open_workshop(work).kept
    found = [row.as_dict() for row in _repeats(pieces, [link(0, 1)], [])]
    write_json(work / "audit.json", {"findings": found})
    worse, better = found[0]["picture"], found[0]["subject"]
    open_workshop(work).decide([Decision(0, "aside", "person", str(better))])
    fixed = fix_findings(work, [], ["repeat: near"])
    assert fixed.decisions == [] and fixed.outdated == 1
    assert worse in {row.name for row in open_workshop(work).kept}


def test_a_choice_can_ask_for_any_tag_of_the_captions(work: Path) -> None:
    def chosen(wanted: str) -> list[str]:
        settings = ChooseSettings(count=2, at_least=(wanted,))
        observers = ObserverSettings()
        return choose_pictures(work, CHARACTER, settings, observers, False, Events())

    assert sorted(chosen("frown=2")) == ["set/0", "set/1"]
    with pytest.raises(InputError, match="neither a subset"):
        chosen("frwn=1")


def test_a_plan_for_pictures_that_show_nothing_to_balance(work: Path) -> None:
    found, *_ = plan_repeats(work, CHARACTER, [], ObserverSettings(), False, Events())
    assert found.repeats == {"set": 1} and found.shares == {}


@pytest.mark.parametrize(("confirmed", "told"), [(0.0, False), (0.9, True)])
def test_values_are_missing_only_where_the_tagger_confirms_labels(
    confirmed: float, told: bool
) -> None:
    vocabulary = vocabulary_for((), ())
    pictures = [CountedPicture("a", 1.0, {"expression": ["smile"]})] * 3
    sight = Sight((), np.zeros((3, 0)), {}, {"expression": confirmed})
    sectors = np.zeros((3, 12))
    found = audit_coverage(pictures, vocabulary, ["expression"], sectors, sight)
    assert any(row.kind == "never shown" for row in found) == told
