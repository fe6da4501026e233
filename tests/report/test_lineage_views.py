"""The history on a terminal and as a page: everything told once, settings at every step, nothing
fetched."""

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from rich.console import Console

from onmodel.cli.console import PlainConsole
from onmodel.cli.tables import print_history
from onmodel.ledger.lineage import add, root, title_of
from onmodel.release.provenance import Provenance
from onmodel.report.lineage_page import lineage_page, lineage_picture
from onmodel.report.lineage_svg import anchor, drawn
from onmodel.report.lineage_tree import history_of
from onmodel.text import is_printable, printable
from tests.support.release_history import history


@pytest.fixture
def provenance() -> Provenance:
    """The made-up history of the card's tests, whose stranger claims something."""
    past = history()
    sheet = {"trigger": "backgwa", "outfits": [1], "rating": "safe"}
    machine = {
        "python": "3.11",
        "system": "Linux",
        "machine": "x86_64",
        "packages": {"torch": "2.13"},
    }
    ground = [add([], "character", name="BACKGWA", sheet=sheet), add([], "environment", **machine)]
    recipe = add(ground, "recipe", seed=7, date="2026-11-22", threads=2)
    theirs = add(
        [], "model", origin="unknown", sha256="9" * 64, claims={"ss_learning_rate": "<b>1e-4</b>"}
    )
    return Provenance(
        "backgwa", add([past, theirs, recipe], "release", name="again", title="Again")
    )


def printed(provenance: Provenance, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_history(history_of(provenance), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 140])
def test_every_step_is_told_once_with_its_settings(provenance: Provenance, width: int) -> None:
    text = printed(provenance, width)
    flat = re.sub(r"[│├└─\s]+", " ", text)
    lineage = provenance.lineage
    for id, node in lineage.items():
        if node["type"] not in ("character", "base", "recipe", "environment"):
            assert flat.count(id[:8]) == 1, (
                f"{title_of(lineage, id)} is told {flat.count(id[:8])} times"
            )
    assert all(len(line) <= width for line in text.splitlines())
    assert (
        "learning_rate 0.002" in flat
        and "release_2 training" in flat
        and "backgwa_alignment ×4" in flat
    )
    assert "uniform, rank 8, alpha 8, 97.1 % of the energy kept" in flat
    assert "0.333 × release_2@30" in flat
    assert (
        "character BACKGWA trigger backgwa" in flat and "Python 3.11" in flat and "seed 7" in flat
    )
    assert flat.count("unknown origin: nothing is recorded") == 2
    assert "its header claims, unchecked: ss_learning_rate <b>1e-4</b>" in flat
    assert "pictures 175, data sets 4, trainings 4, merges 1" in flat


@pytest.mark.parametrize(
    "text", ["a\x1b[31m", "a\nrelease  all is well", "[bold]a[/bold]", ":skull:", "a\u202eb"]
)
def test_a_strangers_text_does_nothing_on_a_terminal_or_in_the_drawing(text: str) -> None:
    theirs = add([], "model", name=text, origin="unknown", sha256="9" * 64, claims={text: text})
    merge = add([theirs], text, name=text, settings={text: text})
    past = Provenance("x", add([merge], "release", name="again", title=text, author=text))
    console = PlainConsole(file=io.StringIO(), width=400)
    print_history(history_of(past), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(map(is_printable, lines)) and not any(
        line.startswith("release  all") for line in lines
    )
    assert sum(printable(text) in line for line in lines) >= 5
    ElementTree.fromstring(lineage_picture(past))


def test_a_join_is_told_where_it_is_met_first_and_referred_to_after(provenance: Provenance) -> None:
    shared = add([], "checkpoint", name="shared")
    left, right = add([shared], "merge_a", name="left"), add([shared], "merge_b", name="right")
    text = printed(Provenance("x", add([left, right], "top", name="top")), 80)
    assert text.count("shared  checkpoint") == 1 and text.count("also, shown above: shared") == 1


def test_the_page_holds_every_node_and_loads_nothing(provenance: Provenance) -> None:
    page = lineage_page(provenance)
    for id in provenance.lineage:
        assert f'id="{anchor(id)}"' in page and id in page
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page)), (
        "no link leads nowhere"
    )
    assert (
        not re.findall(r'(?:src|href)="(?!#)', page)
        and "default-src 'none'" in page
        and "<script" not in page
    )
    assert "<b>1e-4" not in page and "&lt;b&gt;1e-4" in page
    assert "settings.learning_rate" in page
    assert page == lineage_page(
        replace(provenance, lineage=dict(reversed(provenance.lineage.items())))
    )


def test_the_picture_stands_alone(provenance: Provenance) -> None:
    tree = ElementTree.fromstring(lineage_picture(provenance))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert "BACKGWA" in texts and "merged" in texts and "environment" not in texts
    assert "prefers-color-scheme: dark" in lineage_picture(provenance)


def test_what_is_drawn_keeps_every_way_from_the_pictures_to_the_release(
    provenance: Provenance,
) -> None:
    """Idle checkpoints and the ground go; whoever led to the release still does."""
    run = add(
        [add([], "dataset", name="d", root="0" * 64, subsets={}, origins={})], "run", name="r"
    )
    taken, idle = add([run], "checkpoint", epoch=1), add([run], "checkpoint", epoch=2)
    found = add([add([taken, idle], "checkpoints", name="r")], "evaluation", name="e")
    lineage = add([taken, found], "release", name="x")
    shown = drawn(lineage)
    assert {node["type"] for node in shown.values()} == {
        "dataset",
        "run",
        "checkpoint",
        "evaluation",
        "release",
    }
    (evaluation,) = (node for node in shown.values() if node["type"] == "evaluation")
    assert set(evaluation["used"]) == {root(taken), root(run)}
    data = [node for node in drawn(provenance.lineage).values() if node["type"] == "dataset"]
    assert root(shown) == root(lineage) and data
