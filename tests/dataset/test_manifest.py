"""The manifest and the Merkle root of a data set."""

from pathlib import Path

import pytest

from onmodel.dataset.manifest import NAME, Refusal, read_items, write_manifest
from onmodel.errors import StateError
from onmodel.hashing import read_json
from tests.support.items import item


def test_it_comes_back(tmp_path: Path) -> None:
    items = [item(sha256="a" * 64), item(sha256="b" * 64, subset="more", split="heldout")]
    refused = [Refusal("x.png", "the file is empty")]
    subsets = write_manifest(tmp_path, items, {"base": "the look", "more": ""}, refused, {})
    assert read_items(tmp_path) == items
    assert subsets["more"] == {"purpose": "", "count": 1, "heldout": 1}
    assert read_json(tmp_path / NAME)["refused"] == [
        {"file": "x.png", "reason": "the file is empty"}
    ]


def test_a_damaged_manifest_is_an_error(tmp_path: Path) -> None:
    for text in ("{", '{"items": [{"image": 1}]}', "{}"):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(StateError, match=NAME):
            read_items(tmp_path)
