"""Parts of a base are read when they are used, freed when they are not, and come back as they
were."""

import os
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.registry import load_base
from onmodel.randomness import normal

ENCODERS = ("text_encoder", "text_conditioner")


def pictures(family: Anima) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of a picture, and a picture of latents."""
    images = torch.from_numpy(normal((2, 3, 64, 48), 0, "images")).clamp(-1, 1)
    return family.encode_images(images), family.decode_latents(
        torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    )


def rows(family: Anima) -> torch.Tensor:
    """The text of a caption, never a remembered one."""
    with family.text_changed():
        return family.encode_text(["1girl, smile"])[0].tensors()["rows"]


def test_what_was_freed_comes_back_with_the_same_numbers(tiny_family: Anima) -> None:
    before = rows(tiny_family), *pictures(tiny_family)
    freed = [weakref.ref(tiny_family.component(name)) for name in ENCODERS]
    assert all(ref() is not None for ref in freed)
    tiny_family.release()
    assert all(ref() is None for ref in freed)
    after = rows(tiny_family), *pictures(tiny_family)
    assert all(map(torch.equal, before, after))


def test_freeing_keeps_the_transformer_and_remembered_texts(tiny_family: Anima) -> None:
    (text,), backbone = tiny_family.encode_text(["1girl"]), tiny_family.backbone
    tiny_family.release()
    assert tiny_family.encode_text(["1girl"])[0] is text
    assert tiny_family.backbone is backbone


def test_changed_encoders_are_not_freed(tiny_family: Anima) -> None:
    plain = rows(tiny_family)
    with tiny_family.text_changed(), torch.no_grad():
        for parameter in tiny_family.component("text_encoder").parameters():
            parameter.mul_(1.5)
        changed = rows(tiny_family)
        tiny_family.release()
        assert torch.equal(rows(tiny_family), changed)
    assert not torch.equal(plain, changed)
    tiny_family.release()
    assert torch.equal(rows(tiny_family), plain)


def test_a_part_read_while_sampling_can_be_trained(tiny_family: Anima) -> None:
    with torch.inference_mode():
        assert not any(one.is_inference() for one in tiny_family.backbone.parameters())


def test_a_file_that_changed_since_it_was_opened_stops(tiny_anima: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_anima, tmp_path / "base")
    family = load_base({"folder": folder, "device": "cpu"})
    family.encode_text(["1girl"])
    family.release()
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    os.utime(file, (0, 0))
    with pytest.raises(InputError, match="was changed while it was used"):
        family.encode_text(["1boy"])
