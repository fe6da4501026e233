"""DoRA and LoKr: what is trained is what the file says, here and in the tools that load it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.protocol import Text
from onmodel.lora.tensors import applied, read_lora, write_lora
from onmodel.randomness import normal
from onmodel.train.adapters import Trained, attached, fresh_factors
from onmodel.train.peft_layers import DoraAdapters, LokrAdapters

CPU = torch.device("cpu")
RANK, ALPHA, FACTOR = 3, 1.5, 4
Inputs = tuple[Tensor, Tensor, list[Text]]


def dora(family: Anima) -> Trained:
    targets = family.spec.targets("attention_mlp")
    factors = fresh_factors(targets, {linear.name: (RANK, ALPHA) for linear in targets}, seed=1)
    return DoraAdapters(family, factors, CPU)


def lokr(family: Anima) -> Trained:
    targets = family.spec.targets("attention_mlp")
    return LokrAdapters(targets, {linear.name: (RANK, ALPHA) for linear in targets}, FACTOR, 1, CPU)


KINDS = {"dora": dora, "lokr": lokr}


@pytest.fixture
def inputs(tiny_family: Anima) -> Inputs:
    latents = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    return latents, torch.tensor([0.3, 0.8]), tiny_family.encode_text(["1girl, smile", ""])


@torch.no_grad()
def moved(trained: Trained) -> Trained:
    """As if trained: every number somewhere else."""
    trained.flat.mul_(1.1).add_(
        torch.from_numpy(normal(tuple(trained.flat.shape), 3, "move")) * 0.1
    )
    return trained


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_it_begins_at_no_change(
    tiny_family: Anima, inputs: Inputs, make: Callable[[Anima], Trained]
) -> None:
    with torch.no_grad():
        before = tiny_family.denoise(*inputs)
        with attached(tiny_family, make(tiny_family), torch.float32):
            assert torch.allclose(tiny_family.denoise(*inputs), before, atol=1e-5)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_file_says_what_is_trained(
    tiny_family: Anima, inputs: Inputs, make: Callable[[Anima], Trained], tmp_path: Path
) -> None:
    trained = moved(make(tiny_family))
    with torch.no_grad():
        before = tiny_family.denoise(*inputs)
    with attached(tiny_family, trained, torch.float32):
        adapted = tiny_family.denoise(*inputs)
        adapted.square().mean().backward()
    trained.payload("F32").write(tmp_path / "x.safetensors", {})
    with (
        torch.no_grad(),
        applied(
            tiny_family, read_lora(tmp_path / "x.safetensors", tiny_family.spec, dora=True), 1.0
        ),
    ):
        assert torch.allclose(adapted, tiny_family.denoise(*inputs), atol=2e-5)
    with torch.no_grad():
        assert torch.equal(tiny_family.denoise(*inputs), before)
    assert (adapted - before).abs().max() > 0.01
    assert trained.flat.grad is not None
    for parts in trained.parts.values():
        for role, view in parts.items():
            assert view.grad.abs().sum() > 0, role
            assert (
                view.grad.untyped_storage().data_ptr()
                == trained.flat.grad.untyped_storage().data_ptr()
            )


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_bf16_products_are_near(
    tiny_family: Anima, inputs: Inputs, make: Callable[[Anima], Trained]
) -> None:
    trained, found = moved(make(tiny_family)), []
    for dtype in (torch.float32, torch.bfloat16):
        trained.flat.grad.zero_()
        with attached(tiny_family, trained, dtype):
            tiny_family.denoise(*inputs).square().mean().backward()
        found.append(trained.flat.grad.clone())
    assert torch.cosine_similarity(*found, dim=0) > 0.99 and not torch.equal(*found)


def test_half_a_dora_is_half_of_its_change(tiny_family: Anima, tmp_path: Path) -> None:
    moved(dora(tiny_family)).payload("F32").write(tmp_path / "x.safetensors", {})
    lora = read_lora(tmp_path / "x.safetensors", tiny_family.spec, dora=True)
    layer = tiny_family.backbone.get_submodule("transformer_blocks.0.attn1.to_q")
    before, changes = layer.weight.detach().clone(), []
    for strength in (0.5, 1.0):
        with applied(tiny_family, lora, strength):
            changes.append(layer.weight.detach() - before)
    assert torch.allclose(2 * changes[0], changes[1], atol=1e-5)
    magnitude = lora.modules["blocks.0.self_attn.q_proj"].magnitude
    assert torch.allclose((before + changes[1]).norm(dim=1), magnitude, rtol=1e-4)


def test_diffusers_loads_a_dora_whole(tiny_family: Anima, inputs: Inputs, tmp_path: Path) -> None:
    from diffusers.loaders.lora_pipeline import AnimaLoraLoaderMixin

    trained = moved(dora(tiny_family))
    trained.payload("F32").write(tmp_path / "x.safetensors", {})
    with torch.no_grad(), attached(tiny_family, trained, torch.float32):
        wanted = tiny_family.denoise(*inputs)
    state = AnimaLoraLoaderMixin.lora_state_dict(str(tmp_path / "x.safetensors"))
    AnimaLoraLoaderMixin.load_lora_into_transformer(state, tiny_family.backbone, adapter_name="x")
    with torch.no_grad():
        assert torch.allclose(tiny_family.denoise(*inputs), wanted, atol=2e-5)


def test_comfyui_finds_every_tensor_of_a_dora(tiny_family: Anima, tmp_path: Path) -> None:
    """ComfyUI's names for a layer: `lora_A.weight`, `lora_B.weight`, `dora_scale` [out, 1]; the
    rest is diffusers'."""
    moved(dora(tiny_family)).payload("F32").write(tmp_path / "x.safetensors", {})
    tensors = load_file(tmp_path / "x.safetensors")
    for linear in tiny_family.spec.targets("attention_mlp"):
        stem = f"diffusion_model.{linear.name}"
        assert tensors.pop(f"{stem}.lora_A.weight").shape == (RANK, linear.in_features)
        assert tensors.pop(f"{stem}.lora_B.weight").shape == (linear.out_features, RANK)
        scale = tensors.pop(f"{stem}.dora_scale")
        assert scale.shape == (linear.out_features, 1)
        assert torch.equal(scale.flatten(), tensors.pop(f"{stem}.lora_magnitude_vector"))
    assert not tensors


def test_a_dora_in_kohyas_layout_is_read_back(tiny_family: Anima, tmp_path: Path) -> None:
    lora = moved(dora(tiny_family)).lora()  # type: ignore[attr-defined]
    write_lora(tmp_path / "x.safetensors", lora, {}, layout="kohya")
    assert "lora_unet_blocks_0_mlp_layer1.dora_scale" in load_file(tmp_path / "x.safetensors")
    read = read_lora(tmp_path / "x.safetensors", tiny_family.spec, dora=True)
    for name, factors in read.modules.items():
        assert torch.equal(factors.magnitude, lora.modules[name].magnitude)
    with pytest.raises(InputError, match="is DoRA"):
        read_lora(tmp_path / "x.safetensors", tiny_family.spec)


def test_a_lokr_file_means_what_lycoris_makes_of_it(tiny_family: Anima, tmp_path: Path) -> None:
    """W1 ⊗ W2 · alpha/rank, the same whether a tool applies alpha once, twice or (whole matrices)
    never."""
    trained = moved(lokr(tiny_family))
    trained.payload("F32").write(tmp_path / "x.safetensors", {})
    tensors, whole = load_file(tmp_path / "x.safetensors"), 0
    for linear in tiny_family.spec.targets("attention_mlp"):
        stem = f"lora_unet_{linear.name.replace('.', '_')}"
        layer = tiny_family.backbone.get_submodule(linear.diffusers)
        peft = trained.wrapped(linear.name, layer, torch.float32).layer
        first, alpha = tensors.pop(f"{stem}.lokr_w1"), tensors.pop(f"{stem}.alpha")
        assert alpha == RANK
        if f"{stem}.lokr_w2" in tensors:
            change, whole = torch.kron(first, tensors.pop(f"{stem}.lokr_w2")), whole + 1
        else:
            second = tensors.pop(f"{stem}.lokr_w2_a"), tensors.pop(f"{stem}.lokr_w2_b")
            change = torch.kron(first, second[0] @ second[1])
        assert first.shape == (FACTOR, FACTOR)
        assert torch.allclose(change, peft.get_delta_weight("run"), atol=1e-6)
    assert not tensors and whole == 0
    big = LokrAdapters(
        tiny_family.spec.targets("attention_mlp"),
        {linear.name: (64, 8.0) for linear in tiny_family.spec.linears},
        FACTOR,
        1,
        CPU,
    )
    moved(big).payload("F32").write(tmp_path / "whole.safetensors", {})
    found = (
        read_lora(tmp_path / "whole.safetensors", tiny_family.spec)
        .modules["blocks.0.self_attn.q_proj"]
        .delta()
    )
    layer = tiny_family.backbone.get_submodule("transformer_blocks.0.attn1.to_q")
    peft = big.wrapped("blocks.0.self_attn.q_proj", layer, torch.float32).layer
    assert "run" in peft.lokr_w2 and torch.allclose(found, peft.get_delta_weight("run"), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("mlp.layer1.dora_scale", (1, 32), "over columns"),
        ("mlp.layer1.dora_scale", (7,), "over columns"),
    ],
)
def test_a_dora_of_another_kind_stops(
    tiny_family: Anima, tmp_path: Path, key: str, shape: tuple[int, ...], message: str
) -> None:
    from safetensors.torch import save_file

    moved(dora(tiny_family)).payload("F32").write(tmp_path / "x.safetensors", {})
    tensors = load_file(tmp_path / "x.safetensors")
    tensors[f"diffusion_model.blocks.0.{key}"] = torch.ones(shape)
    save_file(tensors, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match=message):
        read_lora(tmp_path / "y.safetensors", tiny_family.spec, dora=True)
