"""A history is run again and compared; what cannot be run says why; the first stage that differs is
named."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from onmodel.engine import local, rebuild
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import hash_json
from onmodel.ledger import environment
from onmodel.ledger.lineage import Node, add, check, ordered
from onmodel.randomness import generator
from onmodel.recipe import load_recipe
from onmodel.release.provenance import Provenance, read_provenance

HEAD = (
    '[recipe]\nname = "r"\ncharacter = "toon:backgwa"\nseed = 3\ndate = "2026-11-22"\nthreads = 1\n'
)
DATA = '[stages.mine]\ndo = "curate"\nsubsets.base = [{ folder = "pictures" }]\nheldout = 0.25\n'
TOON = '[stages.drawn]\ndo = "curate"\nsubsets.base = [{ toon = "backgwa_base", count = 2 }]\n'
BOTH = (
    '[stages.both]\ndo = "curate"\nsubsets.base = [{ dataset = "mine", subset = "base" }, '
    '{ dataset = "drawn", subset = "base" }]\n'
)
LOOK = (
    '[stages.look]\ndo = "train"\ndataset = "mine"\ndata = [{ subset = "base", repeats = 2'
    " }]\nepochs = 2\nrank = 2\nalpha = 2\nbatch = 2\nresolution = 32\nlearning_rate ="
    ' 1e-3\nprecision = "fp32"\n'
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A recipe's folder with four private pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        pixels = generator(i, "picture").integers(0, 255, (32, 32, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"1girl, backgwa, smile, {i}girls")
    return tmp_path


def run(home: Path, text: str, until: str) -> tuple[Project, Path]:
    (home / "recipe.toml").write_text(text)
    project = Project(home / "maker")
    with project.writing():
        result = local.run(load_recipe(home / "recipe.toml"), project, Events(), until)
    return project, result.artifacts[until].path


def again(thing: Provenance, home: Path, maker: Project | None) -> rebuild.Rebuilt:
    return rebuild.rebuild(thing, lambda: Project(home / "fresh"), maker, Events())


@pytest.fixture
def trained(home: Path, tiny_anima: Path) -> tuple[Project, Provenance]:
    base = f'base = {{ family = "anima", folder = "{tiny_anima.as_posix()}", device = "cpu" }}\n'
    project, artifact = run(home, HEAD + base + DATA + LOOK, "look")
    return project, read_provenance(artifact / "epoch-0002.safetensors")


def test_with_the_private_pictures_everything_is_the_same_again(
    trained: tuple[Project, Provenance], home: Path
) -> None:
    project, file = trained
    assert again(file, home, project) == rebuild.Rebuilt(
        {"mine": "the same bytes", "look": "the same bytes"}
    )


def test_the_first_stage_that_differs_is_named_and_nothing_after_it_is_run(
    trained: tuple[Project, Provenance], home: Path
) -> None:
    project, file = trained
    (home / "pictures" / "2.txt").write_text("1girl, backgwa, another caption")
    found = again(file, home, project)
    assert found.differs is not None and found.same == {}
    assert found.differs[0] == "mine" and found.differs[1].startswith("dataset: root is ")
    assert not Project(home / "fresh").artifacts("run")


def test_other_weights_from_the_same_data_are_found_in_their_epoch(
    trained: tuple[Project, Provenance], home: Path
) -> None:
    """As on a machine that rounds otherwise: everything as it was but the tensors of one
    checkpoint."""
    project, file = trained
    past = file.lineage
    before = {id: node for id, node in past.items() if node["type"] != "checkpoint"}
    other = add(
        [before], "checkpoint", epoch=2, step=past[file.newest]["step"], payload_sha256="0" * 64
    )
    found = again(Provenance("file", other), home, project)
    assert found.same == {"mine": "the same bytes"}
    assert found.differs is not None and found.differs[0] == "look"
    assert (
        found.differs[1].startswith("epoch 2: payload_sha256 is ")
        and "was 000000000000" in found.differs[1]
    )


def test_another_environment_is_said_first_and_content_compared(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.environment.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_version", lambda package: "1.0")
        _, artifact = run(home, HEAD + TOON, "drawn")
    environment.environment.cache_clear()
    thing = read_provenance(artifact)
    found = again(thing, home, None)
    assert any(line.startswith("torch: ") and line.endswith(", was 1.0") for line in found.ground)
    assert (
        found.same == {"drawn": "the same content under another history"} and found.differs is None
    )


def test_without_the_private_pictures_the_rest_is_run_and_the_lack_said_in_a_line(
    home: Path,
) -> None:
    project, artifact = run(home, HEAD + DATA + TOON + BOTH, "both")
    thing = read_provenance(artifact)
    assert str(home) not in json.dumps(thing.lineage), "no path of the machine in a history"
    found = again(thing, home, None)
    assert found.same == {"drawn": "the same bytes"} and found.differs is None
    assert (
        "pictures, which no release holds" in found.left_out["mine"]
        and str(home) not in found.left_out["mine"]
    )
    assert found.left_out["both"] == "needs mine"
    assert again(thing, home, project).same.keys() == {"mine", "drawn", "both"}
    (home / "pictures").rename(home / "gone")
    assert "not found from here" in again(thing, home, project).left_out["mine"]


def test_what_cannot_be_run_at_all_is_one_line(
    home: Path, trained: tuple[Project, Provenance]
) -> None:
    with pytest.raises(InputError, match="does not ship with onmodel"):
        again(trained[1], home, None)
    with pytest.raises(InputError, match="no recipes"):
        again(Provenance("x", add([], "model", origin="unknown", sha256="0" * 64)), home, None)
    other = dataclasses.replace(
        trained[1],
        lineage=add([trained[1].lineage, add([], "recipe", seed=1, date="", threads=1)], "release"),
    )
    with pytest.raises(InputError, match="2 recipes"):
        again(other, home, None)
    assert not (home / "fresh").exists()


def test_what_a_tuning_made_is_its_own_and_what_was_merged_of_it_is_not() -> None:
    own = {
        "tuning": {"type": "selection", "name": "tuned", "used": []},
        "kept": {"type": "merge", "name": "tuned", "used": ["tuning"]},
        "later": {"type": "merge", "name": "merged", "used": ["tuning"]},
    }
    assert [id for id in own if rebuild._is_product(own, id, "tuning")] == ["kept"]


def hostile(thing: Provenance, change: Callable[[Node], Node]) -> Provenance:
    """A history of others: every node changed, and every id the hash of its node again."""
    new: dict[str, str] = {}
    lineage: dict[str, Node] = {}
    for id in ordered(thing.lineage):
        node = change(
            {
                **thing.lineage[id],
                "used": sorted(new[parent] for parent in thing.lineage[id]["used"]),
            }
        )
        new[id] = hash_json(node)
        lineage[new[id]] = node
    check(lineage)
    return dataclasses.replace(thing, lineage=lineage)


@pytest.mark.parametrize(
    "name", ["../../out", "/tmp/out", "a\\b", "con", "x" * 300, "a\x00b", "a@b"]
)
def test_a_history_of_others_names_no_file_outside_the_project(name: str, home: Path) -> None:
    _, artifact = run(home, HEAD + TOON, "drawn")

    def renamed(node: Node) -> Node:
        return {**node, "name": name} if node["type"] == "dataset" else node

    def subset(node: Node) -> Node:
        if node["type"] != "dataset":
            return node
        return {
            **node,
            "settings": {**node["settings"], "subsets": {name: [{"toon": "backgwa_base"}]}},
        }

    for change in (renamed, subset) if "@" not in name else (renamed,):
        before = sorted(path for path in home.rglob("*"))
        with pytest.raises(InputError) as error:
            again(hostile(read_provenance(artifact), change), home, None)
        assert "\n" not in str(error.value)
        assert sorted(path for path in home.rglob("*") if "fresh" not in path.parts) == before


@pytest.mark.parametrize(
    ("type", "facts"),
    [
        ("recipe", {"seed": "x"}),
        ("recipe", {"threads": 10**9}),
        ("recipe", {"date": 3}),
        ("recipe", {"seed": None}),
        ("character", {"sheet": 3}),
        ("character", {"sheet": {}}),
        ("base", {"sha256": 3}),
        ("base", {"name": []}),
        ("dataset", {"settings": 3}),
        ("dataset", {"settings": {"do": "format"}}),
        ("dataset", {"settings": {"do": []}}),
        ("dataset", {"settings": {"do": "curate"}}),
        ("dataset", {"settings": {"do": "curate", "subsets": 3}}),
        ("dataset", {"name": 3}),
        ("environment", {"packages": 3}),
        ("code", {"type": "recipe"}),
        ("base", {"type": "code"}),
        ("character", {"type": "base"}),
    ],
)
def test_a_history_that_onmodel_would_not_write_is_a_line(
    type: str, facts: Node, home: Path
) -> None:
    _, artifact = run(home, HEAD + TOON, "drawn")
    thing = hostile(
        read_provenance(artifact), lambda node: {**node, **facts} if node["type"] == type else node
    )
    try:
        found = again(thing, home, None)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert found.differs or found.same or found.left_out
