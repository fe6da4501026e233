"""Ways to compute with less memory: the same bytes, and a stated error where weights are
quantised."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from onmodel.families.anima.family import Anima
from onmodel.families.held import BlockSwap, HeldLinear, quantized, swapped_blocks
from onmodel.families.modes import Modes, candidates, choose
from onmodel.families.registry import load_base
from onmodel.lora.tensors import applied
from onmodel.randomness import normal
from onmodel.train.adapters import Adapters, attached, fresh_factors
from tests.support.tiny_anima import write_tiny_anima


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_anima(tmp_path_factory.mktemp("five_blocks"), blocks=5)


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Swapped blocks are copied as onto another device; how many are there after each copy."""
    counts: list[int] = []
    load = BlockSwap._load

    def counted(self: BlockSwap, block: int) -> None:
        load(self, block)
        counts.append(len(self._here))

    monkeypatch.setattr(BlockSwap, "_load", counted)
    monkeypatch.setattr(BlockSwap, "_copy", lambda self, tensor: tensor.clone())
    return counts


def loaded(base: Path, dtype: str = "float32") -> Anima:
    return load_base({"folder": base, "device": "cpu", "dtype": dtype})


def small_adapters(family: Anima) -> Adapters:
    targets = family.spec.targets("attention_mlp_adaln")
    factors = fresh_factors(targets, {linear.name: (3, 3.0) for linear in targets}, seed=1)
    for name, row in factors.items():
        row.up.copy_(torch.from_numpy(normal(tuple(row.up.shape), 2, name)) * 0.3)
    return Adapters(factors, torch.device("cpu"))


def step(family: Anima, checkpointing: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Velocity and the adapters' gradient of a training step."""
    latents, t = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents")), torch.tensor([0.3, 0.8])
    texts, adapters = family.encode_text(["1girl, smile", ""]), small_adapters(family)
    if checkpointing:
        family.backbone.enable_gradient_checkpointing()
    with attached(family, adapters, dtype), family.training():
        velocity = family.denoise(latents, t, texts)
        velocity.square().mean().backward()
    return velocity.detach(), adapters.gradient


def pictures(family: Anima) -> Tensor:
    """What is predicted while sampling with a LoRA and without."""
    latents = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    texts, found = family.encode_text(["1girl, smile", ""]), []
    with torch.inference_mode():
        with family.sampling(texts) as predict:
            found.append(predict(latents, torch.tensor(0.4)))
        with applied(family, small_adapters(family).lora(), 0.7), family.sampling(texts) as predict:
            found.append(predict(latents, torch.tensor(0.4)))
        with family.sampling(texts) as predict:
            found.append(predict(latents, torch.tensor(0.4)))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    return torch.stack(found)


@pytest.mark.parametrize("count", [1, 3, 5, 9])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_with_swapped_blocks_has_the_same_bits(
    base: Path, resident: list[int], count: int, checkpointing: bool, dtype: torch.dtype
) -> None:
    family = loaded(base)
    plain = step(family, checkpointing, dtype)
    with family.computing(Modes(swap_blocks=count)):
        for _ in range(2):
            assert all(map(torch.equal, step(family, checkpointing, dtype), plain))
        held = [one for one in family.backbone.modules() if isinstance(one, HeldLinear)]
        assert {one.block for one in held} == set(swapped_blocks(5, count))
    assert resident and max(resident) <= 2
    assert all(map(torch.equal, step(family, checkpointing, dtype), plain))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_with_swapped_blocks_has_the_same_bits(
    base: Path, resident: list[int], dtype: str
) -> None:
    family = loaded(base, dtype)
    plain = pictures(family)
    with family.computing(Modes(swap_blocks=4)):
        assert torch.equal(pictures(family), plain)
    assert resident and max(resident) <= 2


def test_the_next_block_is_brought_in_the_direction_of_the_pass(
    base: Path, resident: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    load = BlockSwap._load
    monkeypatch.setattr(
        BlockSwap, "_load", lambda self, block: (order.append(block), load(self, block))
    )
    family = loaded(base)
    with family.computing(Modes(swap_blocks=5)):
        step(family, False, torch.float32)
    assert order == [0, 1, 2, 3, 4, 2, 1, 0]


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.02), ("fp8", 0.04)])
def test_quantised_weights_state_their_error_and_train(
    base: Path, resident: list[int], kind: str, most: float
) -> None:
    family = loaded(base)
    plain = step(family, False, torch.float32)
    weights = {name: one.clone() for name, one in family.backbone.named_parameters()}
    steps = []
    for swapped, checkpointing in ((0, False), (3, True)):
        modes = Modes(quantize=kind, swap_blocks=swapped)  # type: ignore[arg-type]
        with family.computing(modes):
            steps.append(step(family, checkpointing, torch.float32))
            held = {
                name: one
                for name, one in family.backbone.named_modules()
                if isinstance(one, HeldLinear)
            }
            assert all(one.held[0].element_size() == 1 for one in held.values())
            found = {name: one.fetched(torch.float32) for name, one in held.items()}
            changes = [weights[f"{name}.weight"] - one for name, one in found.items()]
            whole = [weights[f"{name}.weight"] for name in held]
            error = family.quantization_error
        assert error == pytest.approx(norm(changes) / norm(whole), rel=1e-4)
        assert 0 < error < most
    assert all(map(torch.equal, *steps))
    assert torch.cosine_similarity(steps[0][1], plain[1], dim=0) > 0.99
    assert family.quantization_error == 0 and all(
        map(torch.equal, step(family, False, torch.float32), plain)
    )


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([one.flatten() for one in tensors]).norm())


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_row_of_zeros_stays_zero_and_the_largest_number_stays(kind: str) -> None:
    weight = torch.from_numpy(normal((3, 64), 0, "rows")) * torch.tensor([[1e-6], [0.0], [1e3]])
    numbers, scale = quantized(weight, kind)  # type: ignore[arg-type]
    found = numbers.float() * scale.float()
    assert torch.isfinite(found).all() and (found[1] == 0).all()
    torch.testing.assert_close(found.abs().amax(1), weight.abs().amax(1), rtol=0.01, atol=0)


@pytest.mark.parametrize("size", [(256, 256), (288, 160), (528, 256)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_picture_coded_in_strips_has_the_same_bits(
    tiny_anima: Path, size: tuple[int, int], dtype: str
) -> None:
    family = loaded(tiny_anima, dtype)
    images = torch.from_numpy(normal((1, 3, *size), 0, "images")).clamp(-1, 1)
    latents = torch.from_numpy(normal((1, 16, size[0] // 8, size[1] // 8), 0, "latents"))
    plain = family.encode_images(images), family.decode_latents(latents)
    with family.computing(Modes(vae_tiles=True)):
        assert torch.equal(family.encode_images(images), plain[0])
        assert torch.equal(family.decode_latents(latents), plain[1])


def test_large_pictures_are_decoded_one_at_a_time_with_the_bits_of_a_batch(
    tiny_family: Anima,
) -> None:
    latents = torch.from_numpy(normal((3, 16, 32, 32), 0, "latents"))
    together = tiny_family.decode_latents(latents)
    assert torch.equal(together, torch.cat([*map(tiny_family.decode_latents, latents.split(1))]))
    sizes: list[int] = []
    decoder = tiny_family._latents().vae.decoder
    decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    tiny_family.decode_latents(latents)
    tiny_family.decode_latents(latents[:, :, :16, :16])
    assert sizes == [1, 1, 1, 3]


# --- the choice


def peak_of(modes: Modes) -> int:
    """Made up: weights of 4 blocks of 100, activations of 1,000, 300 or 250, pictures of 700 or
    200."""
    pictures = 200 if modes.vae_tiles else 700
    activations = 250 if modes.offload else 300 if modes.checkpointing else 1_000
    return max(pictures, activations) + 400 - 100 * modes.swap_blocks


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1_400, Modes()),
        (1_399, Modes(vae_tiles=True, checkpointing=True)),
        (700, Modes(vae_tiles=True, checkpointing=True)),
        (699, Modes(vae_tiles=True, checkpointing=True, offload=True)),
        (649, Modes(vae_tiles=True, checkpointing=True, offload=True, swap_blocks=1)),
        (370, Modes(vae_tiles=True, checkpointing=True, offload=True, swap_blocks=3)),
        (249, None),
    ],
)
def test_the_cheapest_modes_that_fit_are_chosen(budget: int, expected: Modes | None) -> None:
    assert choose(budget, peak_of, candidates(4, Modes())) == expected


def test_the_choice_starts_from_what_was_asked_for() -> None:
    asked = Modes(swap_blocks=2, quantize="int8")
    assert next(candidates(4, asked)) == asked
    assert all(one.quantize == "int8" and one.swap_blocks >= 2 for one in candidates(4, asked))
    whole = candidates(4, Modes(vae_tiles=True, checkpointing=True, offload=True))
    assert [one.swap_blocks for one in whole] == [0, 1, 2, 3, 4]
