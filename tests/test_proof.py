"""One picture is proven on request, trained on or held out, and nothing else can be."""

import json
from pathlib import Path

import pytest

from onmodel.dataset.manifest import exposure_leaf, leaf, read_items, write_manifest
from onmodel.dataset.merkle import merkle_root
from onmodel.engine.project import Project
from onmodel.engine.proof import check_proof, prove
from onmodel.errors import InputError, VerifyError
from onmodel.hashing import read_json, sha256_bytes, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.ledger.store import RunStart
from onmodel.records import Item

NOW = "2026-11-22T00:00:00+00:00"


def picture(i: int) -> bytes:
    return f"picture {i}".encode()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Project, Lineage]:
    """A project with a data set of seven pictures, one held out, and the history of a training on
    it."""
    project = Project(tmp_path / "project")
    scratch = project.scratch("a" * 64)
    items = [
        Item(
            image=f"images/{i}.png",
            sha256=sha256_bytes(picture(i)),
            width=8,
            height=8,
            tags=f"1girl, number {i}",
            subset="alignment" if i < 4 else "base",
            sentence="",
            group=i,
            split="heldout" if i == 3 else "train",
            origin="folder:mine",
        )
        for i in range(7)
    ]
    write_manifest(scratch / "out", items, {"alignment": "", "base": ""}, [], {})
    data = add(
        [], "dataset", name="data", root=merkle_root(map(leaf, items)), subsets={}, origins={}
    )
    write_json(scratch / "out" / "lineage.json", data)
    artifact = project.commit(scratch, "dataset")
    id = project.ledger.start(RunStart("k", "r", "data", "curate", {}, {}, "toon"), {}, NOW)
    project.ledger.finish(id, "dataset", artifact.hash, 1.0, NOW)
    shares = [
        {"subset": "alignment", "repeats": 4, "stage": None},
        {"subset": "base", "repeats": 1, "stage": "data"},
    ]
    labels = {"alignment": ("alignment", 4), "base": ("data/base", 1)}
    exposed = merkle_root(
        exposure_leaf(item, *labels[item.subset]) for item in read_items(artifact.path)
    )
    told = {"settings": {"dataset": "data", "epochs": 40}, "shares": shares}
    run = add(
        [data],
        "run",
        name="look",
        root=exposed,
        exposures={"alignment": 160, "data/base": 40},
        **told,
    )
    return project, add([run], "checkpoint", epoch=40)


def proof(made: tuple[Project, Lineage], i: int, folder: Path) -> tuple[Path, Path]:
    project, lineage = made
    (folder / "one.png").write_bytes(picture(i))
    write_json(folder / "proof.json", prove(folder / "one.png", lineage, project))
    return folder / "proof.json", folder / "one.png"


@pytest.mark.parametrize(
    ("i", "says"),
    [
        (0, "of alignment was trained on, weight 4 × 40 epochs"),
        (3, "was held out, never trained on"),
        (6, "of data/base was trained on, weight 1 × 40 epochs"),
    ],
)
def test_a_picture_is_proven_without_the_project_and_without_the_others(
    made: tuple[Project, Lineage], i: int, says: str, tmp_path: Path
) -> None:
    file, image = proof(made, i, tmp_path)
    said = check_proof(file, made[1], image)
    assert len(said) == 2 and said[0].startswith("data set data: picture") and says in said[1]
    text = file.read_text()
    assert f"number {i}" in text
    others = [j for j in range(7) if j != i]
    assert not any(f"number {j}" in text or sha256_bytes(picture(j)) in text for j in others)


def test_no_fact_of_a_proof_can_be_changed(made: tuple[Project, Lineage], tmp_path: Path) -> None:
    file, image = proof(made, 0, tmp_path)
    good = read_json(file)
    for row, (key, value) in [
        (1, ("weight", 0)),
        (1, ("tags", "1boy")),
        (0, ("subset", "base")),
        (0, ("image", "0" * 64)),
    ]:
        table = json.loads(json.dumps(good))
        table["proofs"][row]["leaf"][key] = value
        write_json(file, table)
        with pytest.raises(VerifyError, match="does not lead to the root of"):
            check_proof(file, made[1], None)
    write_json(file, good)
    image.write_bytes(b"another picture")
    with pytest.raises(VerifyError, match="not the picture that was proven"):
        check_proof(file, made[1], image)
    with pytest.raises(VerifyError, match="an unknown node"):
        check_proof(file, add([], "checkpoint", epoch=1), None)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"type": "urn:onmodel:picture-proof:1", "proofs": []}',
        '{"type": "x"}',
        '{"type": "urn:onmodel:picture-proof:1", "proofs": [{"node": 1}]}',
    ],
)
def test_what_is_no_proof_is_one_line(
    text: str, made: tuple[Project, Lineage], tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(VerifyError, match=r"p\.json"):
        check_proof(tmp_path / "p.json", made[1])
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(InputError, match=r"p\.json"):
        check_proof(tmp_path / "p.json", made[1])


def test_a_picture_that_took_no_part_cannot_be_proven(
    made: tuple[Project, Lineage], tmp_path: Path
) -> None:
    project, lineage = made
    (tmp_path / "other.png").write_bytes(b"x")
    with pytest.raises(InputError, match="none of the 1 data sets"):
        prove(tmp_path / "other.png", lineage, project)
    with pytest.raises(InputError, match="no such file"):
        prove(tmp_path / "nothing.png", lineage, project)
    with pytest.raises(InputError, match="none of the data sets"):
        prove(tmp_path / "other.png", lineage, Project(tmp_path / "another"))
