"""Parts of a base are read when they are used, freed when they are not, and come back as they
were."""

import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima.family import Anima
from onmodel.families.registry import load_base
from onmodel.lora.tensors import Factors, change_weight
from onmodel.randomness import normal
from onmodel.sample.pictures import PictureRequest, render
from onmodel.sample.sampling import Sampling

ENCODERS = ("text_encoder", "text_conditioner")


def pictures(family: Anima) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of a picture, and a picture of latents."""
    images = torch.from_numpy(normal((2, 3, 64, 48), 0, "images")).clamp(-1, 1)
    return family.encode_images(images), family.decode_latents(
        torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    )


def rows(family: Anima) -> torch.Tensor:
    """The text of a caption, never a remembered one."""
    with family.changed([row for row in family.spec.text_linears if row.component == ENCODERS[0]]):
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
    with tiny_family.changed(tiny_family.spec.text_linears) as weights:
        for weight in weights.values():
            weight.mul_(1.5)
        changed = rows(tiny_family)
        tiny_family.release()
        assert torch.equal(rows(tiny_family), changed)
    assert not torch.equal(plain, changed)
    assert torch.equal(rows(tiny_family), plain)
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


def test_weights_that_cannot_be_restored_are_not_used_again(
    tiny_anima: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_anima, tmp_path / "base")
    family = load_base({"folder": folder, "device": "cpu"})
    (file,) = (folder / "transformer").glob("*.safetensors")
    with pytest.raises(InputError, match="start again"), family.changed(family.spec.linears[:1]):
        file.unlink()
    with pytest.raises(InputError, match="start again"):
        family.backbone.parameters()


def test_one_part_that_cannot_be_restored_keeps_no_other_changed(
    tiny_anima: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_anima, tmp_path / "base"))
    family = load_base({"folder": folder})
    plain = rows(family)
    both = [*family.spec.linears[:1], *family.spec.text_linears]
    with pytest.raises(InputError, match="start again"), family.changed(both) as weights:
        for weight in weights.values():
            weight.mul_(2)
        (file,) = (folder / "transformer").glob("*.safetensors")
        os.utime(file, (1, 1))
    assert torch.equal(rows(family), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("out", [24, 129, 300])
@pytest.mark.parametrize("rank", [1, 4, 32])
def test_a_weight_changed_in_groups_of_rows_has_the_bits_of_one_changed_whole(
    dtype: torch.dtype, out: int, rank: int
) -> None:
    up, down, weight, magnitude = (
        torch.from_numpy(normal(shape, 3, "bits", *shape))
        for shape in ((out, rank), (rank, 200), (out, 200), (out,))
    )
    for row in (Factors(down, up, 0.7), Factors(down, up, 0.7, magnitude)):
        got = weight.to(dtype)
        change_weight(got, row, 0.3)
        expected, delta = weight.to(dtype), up @ down
        if row.magnitude is None:
            expected.add_(delta, alpha=0.3 * row.scale)
        else:
            whole = expected.float() + row.scale * delta
            whole *= (row.magnitude / whole.norm(dim=1)).unsqueeze(1)
            expected.add_(whole - expected.float(), alpha=0.3)
        assert torch.equal(got, expected)


def test_prompts_are_encoded_before_the_transformer_is_read(
    tiny_anima: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = load_base({"folder": tiny_anima, "device": "cpu", "dtype": "float32"})
    there: list[tuple[bool, bool]] = []
    encode = family._text._encode

    def look(*args: Any) -> Any:
        found = encode(*args)
        there.append((family._components["text_encoder"].is_read, family._backbone.is_read))
        return found

    monkeypatch.setattr(family._text, "_encode", look)
    sampling = Sampling(steps=1, width=32, height=32)
    request = PictureRequest("1girl", "blurry", 0)
    with Events().task("pictures", total=1) as task:
        render(lambda: family, "0" * 64, [request], sampling, tmp_path, task)
    assert there == [(True, False)] * 2
    assert not family._components["text_encoder"].is_read
