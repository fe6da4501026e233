"""Change anything of a release and compute every hash anew that does not need another id of a node:
it is named.

The forger here edits a file, then writes checksums, the statement and the header's own hashes again
with onmodel's own functions. What stays out of reach are the ids of the nodes, up to the newest,
which the author may publish elsewhere.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.engine.project import Project
from onmodel.engine.running import Result
from onmodel.errors import StateError, VerifyError
from onmodel.hashing import hash_json, sha256_bytes
from onmodel.ledger import versions
from onmodel.ledger.lineage import Lineage, ancestors, ordered, root
from onmodel.lora import header
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.release.folder import LINEAGE, Statement, bind
from onmodel.release.verify import verify
from onmodel.report.collect import publish
from onmodel.weights import open_weights, read_metadata, stream_weights, write_weights
from tests.support.built_release import NAME
from tests.support.release_history import character

WEIGHTS = f"{NAME}.safetensors"
Tensors = dict[str, torch.Tensor]


def rebind(folder: Path) -> None:
    """New file hashes in lineage.json and checksums.txt; the history stays."""
    statement = Statement.from_bytes((folder / LINEAGE).read_bytes())
    bind(
        folder,
        statement.lineage,
        {n: id for n, id in statement.generated.items() if (folder / n).is_file()},
    )


def caught(path: Path) -> str:
    with pytest.raises(VerifyError) as error:
        verify(path)
    return error.value.node


def load(file: Path) -> tuple[Tensors, dict[str, str]]:
    with open_weights(file, "file") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, read_metadata(file)  # noqa: SIM118


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, key))
    else:
        yield place


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case _:
            return 1


def edited(table: Any, place: tuple[Any, ...]) -> Any:
    changed = json.loads(json.dumps(table))
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = another(inner[place[-1]])
    return changed


def test_every_file_is_named_when_it_changes_goes_or_is_added(folder: Path) -> None:
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    kept = (folder / LINEAGE).read_bytes()
    for name in [name for name in names if name not in (LINEAGE, "checksums.txt")]:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data + b"\n")
        rebind(folder)
        assert caught(folder) == name
        (folder / name).unlink()
        rebind(folder)
        assert caught(folder) == name
        (folder / name).write_bytes(data)
        (folder / LINEAGE).write_bytes(kept)
    (folder / "more.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    rebind(folder)
    assert caught(folder) == "more.safetensors"
    (folder / "more.safetensors").unlink()
    rebind(folder)
    assert verify(folder)


@pytest.mark.parametrize(
    "name", ["triggers.json", f"{NAME}.json", f"{NAME}.civitai.info", "evaluation/evaluation.json"]
)
def test_every_leaf_of_a_json_file_is_held(folder: Path, name: str) -> None:
    table = json.loads((folder / name).read_text(encoding="utf-8"))
    places = list(leaves(table))
    for place in places[:: max(1, len(places) // 40)]:
        (folder / name).write_text(
            json.dumps(edited(table, place), ensure_ascii=False), encoding="utf-8"
        )
        rebind(folder)
        assert caught(folder) == name, place


@pytest.mark.parametrize("alone", [True, False])
def test_every_word_of_the_header_is_named(folder: Path, alone: bool) -> None:
    """Changed, taken out, and one added; of the file alone and in its folder."""
    file = folder / WEIGHTS
    tensors, words = load(file)
    forged = {key: words | {key: another(words[key])} for key in words if key not in DERIVED}
    gone = {
        key: {k: v for k, v in words.items() if k != key} for key in words if key not in DERIVED
    }
    for key, changed in [
        *forged.items(),
        *gone.items(),
        ("modelspec.usage_hint", words | {"modelspec.usage_hint": ""}),
    ]:
        write_weights(file, tensors, changed)
        if not alone:
            rebind(folder)
        assert caught(file if alone else folder) == (f"{WEIGHTS}, {key}" if alone else WEIGHTS)


DERIVED = (
    header.RECIPE_KEY,
    "onmodel.payload_sha256",
    header.DIGEST_KEY,
)  # test_the_words_that_follow… and the tensors'


@pytest.mark.parametrize(
    "key", ["onmodel.schema", "onmodel.dataset_root", "onmodel.lineage_sha256"]
)
def test_the_words_that_follow_from_the_history_are_held(folder: Path, key: str) -> None:
    tensors, words = load(folder / WEIGHTS)
    for changed in (words | {key: "0" * 64}, {k: v for k, v in words.items() if k != key}):
        write_weights(folder / WEIGHTS, tensors, changed)
        assert caught(folder / WEIGHTS) == f"{WEIGHTS}, {key}"


def _swapped(tensors: Tensors) -> Tensors:
    """Two tensors of one shape under each other's name."""
    keys = sorted(tensors)
    one, other = next(
        (a, b) for a in keys for b in keys if a < b and tensors[a].shape == tensors[b].shape
    )
    return tensors | {one: tensors[other], other: tensors[one]}


def _first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {min(tensors): change(tensors[min(tensors)])}


TENSORS: dict[str, Callable[[Tensors], Tensors]] = {
    "zeroed": lambda tensors: {key: torch.zeros_like(tensor) for key, tensor in tensors.items()},
    "swapped": _swapped,
    "renamed": lambda tensors: {
        key.replace("blocks.1.", "blocks.7."): tensor for key, tensor in tensors.items()
    },
    "reshaped": _first(lambda tensor: tensor.reshape(tensor.shape[1], tensor.shape[0])),
    "flattened": _first(lambda tensor: tensor.reshape(-1)),
    "another type": _first(lambda tensor: tensor.view(torch.int32)),
    "one number": _first(lambda tensor: tensor.index_fill(0, torch.tensor([0]), 1.0)),
    "one less": lambda tensors: {
        key: tensor for key, tensor in tensors.items() if key != max(tensors)
    },
    "one more": lambda tensors: tensors | {"zzz": torch.zeros(1)},
}


@pytest.mark.parametrize("fault", TENSORS)
def test_other_tensors_under_new_hashes_are_found(folder: Path, fault: str) -> None:
    """The header's own hashes of the tensors are written anew with the file."""
    tensors, words = load(folder / WEIGHTS)
    write_weights(folder / WEIGHTS, TENSORS[fault](tensors), words)
    with pytest.raises(
        VerifyError, match=f"{WEIGHTS}: the tensors' .* are not those that the history holds"
    ):
        verify(folder / WEIGHTS)
    rebind(folder)
    assert caught(folder) == WEIGHTS


def test_a_table_of_tensors_that_is_only_written_otherwise_is_found(folder: Path) -> None:
    """Two entries that trade their places in the file, and a key that stands twice: readers would
    differ."""
    file = folder / WEIGHTS
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    keys = [key for key in table if key != "__metadata__"]
    one, other = next(
        (a, b) for a in keys for b in keys if a < b and table[a]["shape"] == table[b]["shape"]
    )
    swapped = table | {one: table[other], other: table[one]}
    title = '"modelspec.title":"BACKGWA Release 2"'
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for written in (
        json.dumps(swapped, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        json.dumps(table, ensure_ascii=False),
        text.replace(title, f'"modelspec.title":"Another",{title}'),
        text.replace(f'"{one}":', f'"{one}":{json.dumps(table[other])},"{one}":', 1),
    ):
        assert written != text
        head = written.encode().ljust(-(-len(written.encode()) // 8) * 8)
        file.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + length :])
        assert caught(file) == WEIGHTS


def test_every_fact_of_every_node_is_held(folder: Path) -> None:
    """In lineage.json and in the header; ids stay."""
    statement = Statement.from_bytes((folder / LINEAGE).read_bytes())
    for id, node in statement.lineage.items():
        for place in list(leaves(node))[:: max(1, len(list(leaves(node))) // 5)]:
            lineage = statement.lineage | {id: edited(node, place)}
            if place[0] in ("type", "used"):
                # other relations: the statement is no longer canonical, or names no parent
                continue
            bind(folder, lineage, statement.generated)
            assert caught(folder) == f"{LINEAGE}, {node['type']} {id[:12]}"
    bind(folder, statement.lineage, statement.generated)
    tensors, words = load(folder / WEIGHTS)
    past: Lineage = json.loads(words[header.RECIPE_KEY])
    for id, node in past.items():
        lineage = past | {id: {**node, "more": 1}}
        write_weights(folder / WEIGHTS, tensors, words | header.history_words(lineage))
        assert caught(folder / WEIGHTS) == f"{header.RECIPE_KEY}, {node['type']} {id[:12]}"


def test_an_earlier_model_of_the_same_history_is_not_taken_for_the_released_one(
    folder: Path,
) -> None:
    """Its node is in the history, and nothing of it is forged but the file."""
    tensors, words = load(folder / WEIGHTS)
    past: Lineage = json.loads(words[header.RECIPE_KEY])
    (id,) = past[root(past)]["used"]
    earlier = {key: node for key, node in past.items() if key != root(past)}
    write_weights(folder / WEIGHTS, tensors, words | header.history_words(earlier))
    rebind(folder)
    assert caught(folder) == WEIGHTS
    assert past[id]["type"] == "checkpoint"


def test_numbers_are_held_even_where_the_newest_node_is_forged(folder: Path) -> None:
    """Card, tables and evaluation are edited and the release's own node is made anew: the
    evaluation's node and the card's numbers still contradict it."""

    def forge() -> None:
        statement = Statement.from_bytes((folder / LINEAGE).read_bytes())
        newest = root(statement.lineage)
        files = {name: sha256_bytes((folder / name).read_bytes()) for name in statement.files}
        node = {**statement.lineage[newest], "files": files}
        lineage = {id: one for id, one in statement.lineage.items() if id != newest} | {
            hash_json(node): node
        }
        bind(folder, lineage, statement.generated)

    card, numbers = folder / "README.md", folder / "evaluation" / "evaluation.json"
    kept = card.read_text(encoding="utf-8"), numbers.read_bytes()
    table = json.loads(kept[1])
    table["models"][-1]["axes"]["reproduction"]["value"] += 0.1
    numbers.write_text(json.dumps(table))
    forge()
    assert caught(folder) == "evaluation/evaluation.json"
    numbers.write_bytes(kept[1])
    card.write_text(
        kept[0].replace("## Results", "It is right in 97 of 100 pictures.\n\n## Results"),
        encoding="utf-8",
    )
    forge()
    assert caught(folder).startswith("README.md, line ")
    card.write_text(kept[0], encoding="utf-8")
    (folder / "evaluation" / "table.csv").write_text("model,axis\n")
    forge()
    assert caught(folder) == "evaluation/table.csv"


def _without(folder: Path, *facts: str) -> None:
    """The release as an onmodel made it that did not know these facts."""
    tensors, words = load(folder / WEIGHTS)
    statement = Statement.from_bytes((folder / LINEAGE).read_bytes())
    new_ids: dict[str, str] = {}
    lineage: Lineage = {}
    for id in ordered(statement.lineage):
        node = {key: value for key, value in statement.lineage[id].items() if key not in facts}
        node["used"] = sorted(new_ids[parent] for parent in node["used"])
        new_ids[id] = hash_json(node)
        lineage[new_ids[id]] = node
    own = new_ids[statement.generated[WEIGHTS]]
    write_weights(folder / WEIGHTS, tensors, words | header.history_words(ancestors(lineage, own)))
    bind(folder, lineage, {WEIGHTS: own})


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (("files",), "not checked: the history does not hold the hashes of the files"),
        (("words", "files"), "not checked, the history does not hold the words of the header"),
        (
            ("tensors_sha256", "words", "files"),
            "not hold the tensors' names, shapes and types, the words of the header",
        ),
        (
            ("evaluation_sha256", "files"),
            "not checked, the history does not hold the hash of the numbers",
        ),
    ],
)
def test_an_older_release_says_what_it_does_not_promise(
    folder: Path, facts: tuple[str, ...], says: str
) -> None:
    _without(folder, *facts)
    assert any(says in line for line in verify(folder)), verify(folder)


def test_the_card_of_another_version_is_held_by_its_hash_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(versions.VERBS, "release", versions.VERBS["release"] + 1)
    assert any("the card is of another version, so not checked" in line for line in verify(folder))
    (folder / "README.md").write_text("Better in all.\n")
    rebind(folder)
    assert caught(folder) == "README.md"


def test_a_stray_file_of_the_hub_is_no_part_of_the_release(folder: Path) -> None:
    (folder / ".gitattributes").write_text("*.png filter=lfs")
    shutil.copytree(folder / "images", folder / ".cache" / "huggingface")
    assert verify(folder)


def test_a_file_that_was_written_in_pieces_is_canonical(folder: Path, tmp_path: Path) -> None:
    """Words that are known late leave room behind the header; that is not a fault."""
    from onmodel.weights import Entry, is_canonical

    pieces = [torch.zeros(4).numpy()]
    words = {"a": "a long word"}
    stream_weights(
        tmp_path / "x.safetensors", {"t": Entry("F32", (4,))}, pieces, words, lambda: {"a": "b"}
    )
    assert is_canonical(tmp_path / "x.safetensors")


def test_a_release_that_was_damaged_in_the_store_is_not_published(
    folder: Path, tmp_path: Path
) -> None:
    stages = {"release": {"do": "release", "file_name": NAME}}
    recipe = Recipe("r", character(), "toon", 1, "2026-11-22", 1, stages, "")
    project = Project(tmp_path / "project")
    result = Result({"release": Artifact("release", "0" * 64, folder.parent)}, {})
    (published,) = publish(recipe, project, result).values()
    assert verify(published)
    kept = (published / "README.md").read_bytes()
    for name in ("README.md", WEIGHTS, "evaluation/evaluation.json", LINEAGE):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(StateError, match="is damaged, so it is not published"):
            publish(recipe, project, result)
        (folder / name).write_bytes(data)
    assert (published / "README.md").read_bytes() == kept, "what was published before stays"
