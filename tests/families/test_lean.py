"""The blocks of training and sampling are diffusers' own function, and leave no trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from onmodel.families.anima.family import Anima
from onmodel.families.anima.lean import lean_blocks
from onmodel.families.registry import load_base
from onmodel.randomness import normal
from onmodel.train.adapters import Adapters, attached, fresh_factors
from tests.support.tiny_anima import write_tiny_anima


def gradients(family: Anima, checkpointing: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocity, and the gradient of adapters on every layer of the blocks."""
    latents, t = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents")), torch.tensor([0.3, 0.8])
    targets = family.spec.targets("attention_mlp_adaln")
    factors = fresh_factors(targets, {linear.name: (3, 3.0) for linear in targets}, seed=1)
    for name, row in factors.items():
        row.up.copy_(torch.from_numpy(normal(tuple(row.up.shape), 2, name)) * 0.3)
    adapters = Adapters(factors, torch.device("cpu"))
    if checkpointing:
        family.backbone.enable_gradient_checkpointing()
    with attached(family, adapters, torch.float32):
        velocity = family.denoise(latents, t, family.encode_text(["1girl, smile", ""]))
        velocity.square().mean().backward()
    if checkpointing:
        family.backbone.disable_gradient_checkpointing()
    return velocity.detach(), adapters.gradient


@pytest.mark.parametrize("checkpointing", [False, True])
def test_they_are_the_same_function(tiny_family: Anima, checkpointing: bool) -> None:
    velocity, gradient = gradients(tiny_family)
    with lean_blocks(tiny_family.backbone):
        lean_velocity, lean_gradient = gradients(tiny_family, checkpointing)
    assert torch.allclose(lean_velocity, velocity, atol=1e-5)
    assert torch.allclose(
        lean_gradient, gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max())
    )
    assert not torch.equal(lean_velocity, velocity)  # or nothing was replaced
    assert torch.equal(gradients(tiny_family)[0], velocity)


def test_sampling_computes_a_text_s_keys_and_values_once(tiny_family: Anima) -> None:
    latents = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    texts = tiny_family.encode_text(["1girl, smile", ""])
    calls: list[int] = []
    for block in tiny_family.backbone.transformer_blocks:
        block.attn2.to_k.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        expected = {t: tiny_family.denoise(latents, torch.full((2,), t), texts) for t in (1.0, 0.3)}
        calls.clear()
        with tiny_family.sampling(texts) as predict:
            found = {t: predict(latents, torch.tensor(t)) for t in expected}
        assert len(calls) == tiny_family.spec.blocks
        for t, velocity in expected.items():
            assert torch.allclose(found[t], velocity, atol=1e-5)
        assert torch.equal(
            tiny_family.denoise(latents, torch.full((2,), 0.3), texts), expected[0.3]
        )


def test_sampling_within_training_leaves_training_as_it_was(tiny_family: Anima) -> None:
    latents, t = torch.from_numpy(normal((1, 16, 8, 6), 0, "latents")), torch.tensor([0.3])
    one, other = tiny_family.encode_text(["1girl, smile"]), tiny_family.encode_text(["sad"])
    with torch.no_grad(), tiny_family.training():
        before = tiny_family.denoise(latents, t, one)
        with tiny_family.sampling(other) as predict:
            assert torch.allclose(
                predict(latents, t[0]), tiny_family.denoise(latents, t, other), atol=1e-5
            )
        assert torch.equal(tiny_family.denoise(latents, t, one), before)


def test_a_compiler_can_take_a_block_whole_and_use_it_for_all(tmp_path: Path) -> None:
    """Two graphs for three blocks: what enters the first one needs no gradient."""
    folder = write_tiny_anima(tmp_path, blocks=3)
    family: Anima = load_base({"family": "anima", "folder": folder, "device": "cpu"})
    counted = CompileCounterWithBackend("eager")
    targets = family.spec.targets("attention_mlp")
    factors = fresh_factors(targets, {linear.name: (3, 3.0) for linear in targets}, seed=1)
    adapters, found = Adapters(factors, torch.device("cpu")), []
    blocks: Any = family.backbone.transformer_blocks
    latents, t = torch.from_numpy(normal((1, 16, 8, 6), 0, "latents")), torch.tensor([0.3])
    with attached(family, adapters, torch.bfloat16), family.training():
        for compiled in (False, True):
            for block in blocks if compiled else ():
                block.forward = torch.compile(
                    block.forward, backend=counted, dynamic=False, fullgraph=True
                )
            for _ in range(2):
                adapters.gradient.zero_()
                with adapters.low_precision(torch.bfloat16):
                    velocity = family.denoise(latents, t, family.encode_text(["1girl"]))
                    velocity.square().mean().backward()
            found.append((velocity.detach(), adapters.gradient.clone()))
    assert counted.frame_count == 2
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
