"""LoRA files: every layout gives the same ΔW, what we write loads in diffusers, and bad files say
what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima.spec import make_spec
from onmodel.hashing import sha256_file
from onmodel.lora.file import LoraFile
from onmodel.lora.layouts import BLOCKS_KEY, name_table
from onmodel.lora.tensors import Factors, Lora, read_lora, rescale, write_lora
from onmodel.randomness import normal
from tests.support.lora_layouts import (
    ALPHA,
    LAYOUTS,
    RANK,
    SPEC,
    as_common,
    as_peft_folder,
    deltas,
    diffusers_names,
    random_lora,
    small,
    spec_of,
)


def rank_alphas(rank: int, alpha: float) -> dict[str, tuple[int, float]]:
    return {linear.name: (rank, alpha) for linear in SPEC.linears}


def assert_same_change(one: Lora, two: Lora) -> None:
    a, b = deltas(one), deltas(two)
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("preset", ["attention_mlp", "attention_mlp_adaln"])
def test_every_layout_gives_the_same_change(tmp_path: Path, layout: str, preset: str) -> None:
    lora = random_lora(preset=preset)
    assert_same_change(read_lora(LAYOUTS[layout](tmp_path, lora), SPEC), lora)


def test_published_counts() -> None:
    with torch.device("meta"):
        spec = make_spec(
            CosmosTransformer3DModel(num_attention_heads=16, extra_pos_embed_type=None)
        )
    assert len(spec.targets("attention_mlp")) == 280
    assert len(spec.targets("attention_mlp_adaln")) == 448
    name_table(spec)  # no spelling names two layers


def test_common_layout_has_no_alpha_but_remembers_it(tmp_path: Path) -> None:
    path = as_common(tmp_path, random_lora())
    keys = load_file(path).keys()
    assert all(key.startswith("diffusion_model.blocks.") and "alpha" not in key for key in keys)
    read = read_lora(path, SPEC)
    assert read.trained_alpha == ALPHA
    write_lora(tmp_path / "again.safetensors", read, {})
    assert sha256_file(tmp_path / "again.safetensors") == sha256_file(path)


def test_diffusers_consumes_every_key_of_the_common_layout(tmp_path: Path) -> None:
    from diffusers.loaders.lora_pipeline import AnimaLoraLoaderMixin

    lora = random_lora()
    model = small(2)
    state = AnimaLoraLoaderMixin.lora_state_dict(str(as_common(tmp_path, lora)))
    AnimaLoraLoaderMixin.load_lora_into_transformer(state, model, adapter_name="x")
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert len(layers) == len(lora.modules)
    for name, diffusers in diffusers_names(SPEC).items():
        if name in lora.modules:
            layer = layers[diffusers]
            change = layer.scaling["x"] * layer.lora_B["x"].weight @ layer.lora_A["x"].weight
            torch.testing.assert_close(change, lora.modules[name].delta(), rtol=1e-5, atol=1e-5)


def test_bfloat16_halves_the_file_and_float16_overflow_stops(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", random_lora(), {}, dtype="BF16")
    write_lora(tmp_path / "b", random_lora(), {})
    assert (tmp_path / "a").stat().st_size < 0.6 * (tmp_path / "b").stat().st_size
    huge = {name: Factors(f.down, f.up * 1e6, f.alpha) for name, f in random_lora().modules.items()}
    with pytest.raises(InputError, match="overflows"):
        write_lora(tmp_path / "c", Lora(huge), {}, dtype="F16")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(("rank", "alpha"), [(RANK, 8.0), (8, 1.0), (RANK, ALPHA)])
def test_rescale_keeps_the_change(rank: int, alpha: float) -> None:
    lora = random_lora()
    other = rescale(lora, rank_alphas(rank, alpha), seed=3)
    assert_same_change(lora, other)
    assert {(f.rank, f.alpha) for f in other.modules.values()} == {(rank, alpha)}
    assert other.trained_alpha == alpha
    for factors in other.modules.values():
        assert (factors.up[:, RANK:] == 0).all()
        assert rank == RANK or factors.down[RANK:].std() > 0  # both zero never learns


def test_rescale_gives_a_file_its_trained_step_back(tmp_path: Path) -> None:
    lora = random_lora()
    read = read_lora(as_common(tmp_path, lora), SPEC)
    assert read.trained_alpha is not None
    again = rescale(read, rank_alphas(RANK, read.trained_alpha), seed=0)
    for name, factors in again.modules.items():
        assert torch.equal(factors.up, lora.modules[name].up)  # 1/4 and 4 round nothing
    with pytest.raises(InputError, match="rank: 2"):
        rescale(lora, rank_alphas(2, 1.0), seed=0)


def test_loha_and_lokr_expand_exactly(tmp_path: Path) -> None:
    rows = SPEC.targets("attention_mlp")[:2]
    t = {
        key: torch.from_numpy(normal(shape, 5, key)) for key, shape in _lycoris_shapes(rows).items()
    }
    save_file(
        {
            **t,
            f"{_kohya(rows[0])}.alpha": torch.tensor(1.0),
            f"{_kohya(rows[1])}.alpha": torch.tensor(2.0),
        },
        tmp_path / "x",
    )
    read = read_lora(tmp_path / "x", SPEC)
    a, b = _kohya(rows[0]), _kohya(rows[1])
    loha = (
        (t[f"{a}.hada_w1_a"] @ t[f"{a}.hada_w1_b"])
        * (t[f"{a}.hada_w2_a"] @ t[f"{a}.hada_w2_b"])
        / 3
    )
    lokr = torch.kron(t[f"{b}.lokr_w1"], t[f"{b}.lokr_w2_a"] @ t[f"{b}.lokr_w2_b"]) * 2 / 2
    torch.testing.assert_close(read.modules[rows[0].name].delta(), loha, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read.modules[rows[1].name].delta(), lokr, rtol=1e-5, atol=1e-5)


def _kohya(row: Any) -> str:
    return "lora_unet_" + row.name.replace(".", "_")


def _lycoris_shapes(rows: list[Any]) -> dict[str, tuple[int, int]]:
    a, b = rows
    assert b.out_features % 4 == 0 and b.in_features % 2 == 0
    return {
        f"{_kohya(a)}.hada_w1_a": (a.out_features, 3),
        f"{_kohya(a)}.hada_w1_b": (3, a.in_features),
        f"{_kohya(a)}.hada_w2_a": (a.out_features, 3),
        f"{_kohya(a)}.hada_w2_b": (3, a.in_features),
        f"{_kohya(b)}.lokr_w1": (4, 2),
        f"{_kohya(b)}.lokr_w2_a": (b.out_features // 4, 2),
        f"{_kohya(b)}.lokr_w2_b": (2, b.in_features // 2),
    }


# --- what must stop
# -------------------------------------------------------------------------------------------------


def changed(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """A common file after `change` was done to its tensors, with a header that knows of it."""
    tensors = load_file(as_common(path, random_lora()))
    change(tensors)
    save_file(tensors, path / "y.safetensors")
    return path / "y.safetensors"


Q = "diffusion_model.blocks.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({f"{Q}.dora_scale": torch.ones(32)}), "is DoRA"),
        (lambda t: t.update({f"{Q}.oft_blocks": torch.ones(2, 2)}), "is OFT"),
        (
            lambda t: t.update({"diffusion_model.norm.lora_A.weight": torch.ones(2, 2)}),
            "1 of .* are unknown",
        ),
        (
            lambda t: t.update(
                {
                    "diffusion_model.llm_adapter.blocks.0.self_attn.q_proj.lora_A.weight": (
                        torch.ones(2, 2)
                    )
                }
            ),
            "text conditioner",
        ),
        (lambda t: t[f"{Q}.lora_B.weight"].fill_(float("nan")), "not finite"),
        (lambda t: t.pop(f"{Q}.lora_B.weight"), "has only down"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(RANK, 7)}), "has .* there"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(3, 32)}), "is not a product"),
        (
            lambda t: t.update(
                {"lora_unet_blocks_0_self_attn_q_proj.lora_down.weight": torch.ones(4, 32)}
            ),
            "twice",
        ),
    ],
)
def test_wrong_tensors_stop(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_lora(changed(tmp_path, change), SPEC)


def test_another_model_stops(tmp_path: Path) -> None:
    save_file(
        {"lora_unet_down_blocks_0_attn.lora_down.weight": torch.ones(4, 32)}, tmp_path / "sdxl"
    )
    with pytest.raises(InputError, match="not for anima: none of its 1 keys names a layer"):
        read_lora(tmp_path / "sdxl", SPEC)


def test_more_blocks_stop_and_fewer_are_noted_unless_the_header_counts_them(tmp_path: Path) -> None:
    few, many = spec_of(2), spec_of(3)
    write_lora(tmp_path / "few", random_lora(few), {})
    write_lora(tmp_path / "many", random_lora(many), {})
    assert set(read_lora(tmp_path / "few", many).modules) == set(random_lora(few).modules)
    with LoraFile(tmp_path / "few", many) as file:
        assert file.notes == (
            "changes only blocks 0-1 of 3; if it was made for a smaller base, it does not fit:"
            " onmodel lora remap FILE --from SMALLER --base BASE -o OUT moves it",
        )
    write_lora(tmp_path / "said", random_lora(few), {BLOCKS_KEY: "2"})
    with pytest.raises(InputError, match="made for a base of 2 blocks, this one has 3"):
        read_lora(tmp_path / "said", many)
    with pytest.raises(InputError, match="made for a base of 3 blocks, this one has 2"):
        read_lora(tmp_path / "many", few)


def test_a_header_that_lies_stops(tmp_path: Path) -> None:
    path = as_common(tmp_path, random_lora())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not those that its header was written for"):
        read_lora(path, SPEC)


@pytest.mark.parametrize(
    "config", [{"use_dora": True}, {"alpha_pattern": {"(a+)+": 2}}, {"rank_pattern": {"to_q": 0}}]
)
def test_peft_configs_that_change_the_meaning_stop(tmp_path: Path, config: dict[str, Any]) -> None:
    as_peft_folder(tmp_path, random_lora())
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 1, **config}))
    with pytest.raises(
        InputError, match=r"DoRA|the pattern \(a\+\)\+, which is not read|not above 0"
    ):
        read_lora(tmp_path, SPEC)


def test_a_peft_folder_without_config_stops(tmp_path: Path) -> None:
    as_peft_folder(tmp_path, random_lora())
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(InputError, match="needs its config"):
        read_lora(tmp_path, SPEC)
