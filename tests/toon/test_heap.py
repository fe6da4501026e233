"""The heap says the truth about itself: what is planted is in the files, and the same seed plants
the same."""

from pathlib import Path

from onmodel.hashing import tree_hash
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.heap import LABELLED, plant_heap


def test_a_heap_is_as_its_truth_says(tmp_path: Path) -> None:
    heap = plant_heap(tmp_path / "a", 120, 3)
    files = {
        str(path.relative_to(tmp_path / "a").with_suffix(""))
        for path in (tmp_path / "a").rglob("*.png")
    }
    assert len(files) == 120 and set(heap.toons) == files
    copies = [name for name in heap.repeats if name in heap.pictures["exact"]]
    for name in copies:
        assert (tmp_path / "a" / f"{name}.png").read_bytes() == (
            tmp_path / "a" / f"{heap.repeats[name]}.png"
        ).read_bytes()
    assert copies
    for name, attribute in heap.labels["missing label"]:
        said = (tmp_path / "a" / f"{name}.txt").read_text().splitlines()[0].split(", ")
        assert not set(said) & set(VOCABULARY[attribute].values()), (name, attribute)
    for name, attribute in heap.labels["wrong label"]:
        tag = VOCABULARY[attribute][getattr(heap.toons[name], attribute)]
        assert tag not in (tmp_path / "a" / f"{name}.txt").read_text().splitlines()[0].split(
            ", "
        ), (name, attribute)
    assert {attribute for _, attribute in heap.labels["wrong label"]} <= set(LABELLED)


def test_the_same_seed_plants_the_same_heap(tmp_path: Path) -> None:
    plant_heap(tmp_path / "a", 30, 3)
    plant_heap(tmp_path / "b", 30, 3)
    assert tree_hash(tmp_path / "a") == tree_hash(tmp_path / "b")
