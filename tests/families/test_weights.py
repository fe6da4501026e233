"""Files of weights: canonical bytes that safetensors reads, and clear errors for torn ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onmodel.errors import InputError
from onmodel.weights import (
    PAYLOAD_KEY,
    open_weights,
    payload_sha256,
    read_metadata,
    stream_weights,
    table_sha256,
    tensor_payload,
    write_weights,
    written_order,
)

TENSORS = {
    "b": torch.arange(6.0).reshape(2, 3),
    "a": torch.arange(3.0).to(torch.bfloat16),
    "c": torch.tensor(1.5),
}


def test_safetensors_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_weights(path, TENSORS, {"z": "1", "title": "後ろ"})
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    words = read_metadata(path)
    assert words["title"] == "後ろ"
    assert words[PAYLOAD_KEY] == payload_sha256(path)
    assert words["modelspec.hash_sha256"] == "0x" + payload_sha256(path)


def test_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_weights(one, TENSORS, {"a": "1", "b": "2"})
    write_weights(two, dict(reversed(TENSORS.items())), {"b": "2", "a": "1"})
    assert one.read_bytes() == two.read_bytes()
    length = int.from_bytes(one.read_bytes()[:8], "little")
    assert length % 8 == 0
    header = one.read_bytes()[8 : 8 + length].rstrip(b" ")
    assert (
        header
        == json.dumps(
            json.loads(header), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


def test_hashes_are_known_before_the_file_is_written_and_streaming_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    payload = tensor_payload(TENSORS)
    before = payload.sha256, payload.table_sha256
    payload.write(one, {"title": "後ろ"})
    assert before == (payload_sha256(one), table_sha256(one))
    pieces = (payload.arrays[name] for name in written_order(payload.entries))
    stream_weights(two, payload.entries, pieces, {"title": "後ろ"})
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "short", "header", "empty"])
def test_torn_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    write_weights(path, TENSORS, {})
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-4], "short": data[:20], "header": b"\xff" * 8 + data[8:], "empty": b""}[
            damage
        ]
    )
    with pytest.raises(InputError, match=r"lora: .*x\.safetensors — is no complete"):
        open_weights(path, "lora")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"base\.dit: .*gone\.safetensors — no such file"):
        open_weights(tmp_path / "gone.safetensors", "base.dit")
