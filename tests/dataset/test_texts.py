"""Captions encoded once and mapped: the same text, never another base's."""

from pathlib import Path

import torch

from onmodel.dataset.texts import encode_captions
from onmodel.events import Events
from onmodel.families.anima.family import Anima


def test_captions_are_encoded_once_and_never_taken_from_another_base(
    tiny_family: Anima, tmp_path: Path
) -> None:
    captions = ["1girl, smile", "", "1girl"]

    def texts() -> dict[str, tuple[torch.Tensor, int]]:
        found = encode_captions(tiny_family, captions, tmp_path, Events())
        return {caption: (text.rows_sd, text.zero_rows) for caption, text in found.items()}

    first, asked = texts(), []
    for caption, (text,) in ((caption, tiny_family.encode_text([caption])) for caption in captions):
        assert torch.equal(first[caption][0], text.rows_sd) and first[caption][1] == text.zero_rows
    encode = tiny_family.encode_text
    tiny_family.encode_text = lambda captions: asked.extend(captions) or encode(captions)  # type: ignore[method-assign]
    try:
        texts()
        assert asked == []
        tiny_family.sha256 = "1" * 64
        texts()
        assert sorted(asked) == sorted(captions)
    finally:
        del tiny_family.encode_text
