"""LoRA layers in a base: the right function, the right gradient, and no trace afterwards."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from onmodel.families.anima.family import Anima
from onmodel.families.protocol import Text
from onmodel.lora.tensors import Factors, applied
from onmodel.randomness import normal
from onmodel.train.adapters import Adapters, attached, fresh_factors
from onmodel.train.checkpointing import compute_twice

CPU = torch.device("cpu")
Inputs = tuple[Tensor, Tensor, list[Text]]


@pytest.fixture
def inputs(tiny_family: Anima) -> Inputs:
    latents = torch.from_numpy(normal((2, 16, 8, 6), 0, "latents"))
    return latents, torch.tensor([0.3, 0.8]), tiny_family.encode_text(["1girl, smile", ""])


def fresh(
    family: Anima, rank: int, alpha: float, preset: str = "attention_mlp"
) -> dict[str, Factors]:
    linears = family.spec.targets(preset)
    return fresh_factors(linears, {linear.name: (rank, alpha) for linear in linears}, seed=1)


def random_factors(
    family: Anima, rank: int = 3, alpha: float = 1.5, preset: str = "attention_mlp"
) -> dict[str, Factors]:
    factors = fresh(family, rank, alpha, preset)
    return {
        name: Factors(f.down, torch.from_numpy(normal(tuple(f.up.shape), 2, name)) * 0.3, alpha)
        for name, f in factors.items()
    }


def test_fresh_factors_change_nothing(tiny_family: Anima, inputs: Inputs) -> None:
    before = tiny_family.denoise(*inputs)
    factors = fresh(tiny_family, 4, 4.0)
    assert len(factors) == 20
    with attached(tiny_family, Adapters(factors, CPU), torch.float32), torch.no_grad():
        assert torch.equal(tiny_family.denoise(*inputs), before)


def test_fresh_factors_are_drawn_per_layer(tiny_family: Anima) -> None:
    few = fresh(tiny_family, 4, 4.0)
    more = fresh(tiny_family, 4, 4.0, "attention_mlp_adaln")
    assert len(more) == 32
    assert all(torch.equal(more[name].down, factors.down) for name, factors in few.items())
    assert len({factors.down.flatten()[0].item() for factors in more.values()}) == 32


@pytest.mark.parametrize("preset", ["attention_mlp", "attention_mlp_adaln"])
def test_the_adapted_base_is_the_base_plus_delta(
    tiny_family: Anima, inputs: Inputs, preset: str
) -> None:
    adapters = Adapters(random_factors(tiny_family, preset=preset), CPU)
    with attached(tiny_family, adapters, torch.float32), torch.no_grad():
        adapted = tiny_family.denoise(*inputs)
    with applied(tiny_family, adapters.lora(), 1.0), torch.no_grad():
        assert torch.allclose(adapted, tiny_family.denoise(*inputs), atol=2e-5)


def test_the_base_comes_back_untouched(tiny_family: Anima, inputs: Inputs) -> None:
    transformer = tiny_family.backbone
    weights = {name: parameter.clone() for name, parameter in transformer.named_parameters()}
    modules = dict(transformer.named_modules())
    with torch.no_grad():
        before = tiny_family.denoise(*inputs)
    adapters = Adapters(random_factors(tiny_family), CPU)
    with pytest.raises(RuntimeError, match="stop"), attached(tiny_family, adapters, torch.bfloat16):
        tiny_family.denoise(*inputs).sum().backward()
        raise RuntimeError("stop")
    assert dict(transformer.named_modules()) == modules
    for name, parameter in transformer.named_parameters():
        assert torch.equal(parameter, weights.pop(name)) and parameter.grad is None
    assert not weights
    with torch.no_grad():
        assert torch.equal(tiny_family.denoise(*inputs), before)


def test_gradients_are_those_of_peft(tiny_family: Anima, inputs: Inputs) -> None:
    factors = random_factors(tiny_family)
    adapters = Adapters(factors, CPU)
    with attached(tiny_family, adapters, torch.float32):
        own = tiny_family.denoise(*inputs)
        own.square().mean().backward()
    gradients = {
        name: (down.grad.clone(), up.grad.clone()) for name, (down, up) in adapters.layers.items()
    }
    assert torch.equal(
        adapters.flat.grad, torch.cat([g.reshape(-1) for pair in gradients.values() for g in pair])
    )

    places = {linear.diffusers: linear.name for linear in tiny_family.spec.targets("attention_mlp")}
    config = LoraConfig(r=3, lora_alpha=1.5, target_modules=list(places))
    inject_adapter_in_model(config, tiny_family.backbone)
    layers = {place: tiny_family.backbone.get_submodule(place) for place in places}
    for place, layer in layers.items():
        layer.lora_A["default"].weight.data.copy_(factors[places[place]].down)
        layer.lora_B["default"].weight.data.copy_(factors[places[place]].up)
    peft = tiny_family.denoise(*inputs)
    peft.square().mean().backward()
    assert torch.allclose(own, peft, atol=1e-5)
    for place, layer in layers.items():
        down, up = gradients[places[place]]
        assert torch.allclose(down, layer.lora_A["default"].weight.grad, rtol=1e-3, atol=1e-6)
        assert torch.allclose(up, layer.lora_B["default"].weight.grad, rtol=1e-3, atol=1e-6)


def test_bf16_products_are_near(tiny_family: Anima, inputs: Inputs) -> None:
    adapters = Adapters(random_factors(tiny_family), CPU)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        adapters.flat.grad.zero_()
        with attached(tiny_family, adapters, dtype):
            tiny_family.denoise(*inputs).square().mean().backward()
        found.append(adapters.flat.grad.clone())
    assert adapters.flat.dtype == torch.float32
    assert torch.cosine_similarity(*found, dim=0) > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [3.0, 1.1])
@pytest.mark.parametrize("twice", [None, "here", "offloaded"])
def test_one_cast_for_all_layers_gives_the_bits_of_a_cast_in_each(
    tiny_family: Anima, inputs: Inputs, dtype: torch.dtype, alpha: float, twice: str | None
) -> None:
    adapters = Adapters(random_factors(tiny_family, alpha=alpha), CPU)
    found = []
    if twice:
        compute_twice(tiny_family.backbone, "cpu" if twice == "offloaded" else None)
    with attached(tiny_family, adapters, dtype):
        for context in (nullcontext(), adapters.low_precision(dtype)):
            if found:  # made anew by the one cast
                adapters.free_gradient()
            with context:
                velocity = tiny_family.denoise(*inputs)
                velocity.square().mean().backward()
            found.append((velocity.detach(), adapters.gradient.clone()))
        with torch.no_grad():  # after the pass, layers follow the factors again
            adapters.flat.zero_()
            assert not torch.equal(tiny_family.denoise(*inputs), velocity)
    tiny_family.backbone.disable_gradient_checkpointing()
    (velocity, gradient), (velocity_of_one, gradient_of_one) = found
    assert torch.equal(velocity_of_one, velocity)
    assert torch.equal(gradient_of_one, gradient) and gradient.abs().max() > 0


def test_factors_come_back_as_a_copy(tiny_family: Anima) -> None:
    factors = random_factors(tiny_family)
    adapters = Adapters(factors, CPU)
    lora = adapters.lora()
    with torch.no_grad():
        adapters.flat.zero_()
    for name, row in lora.modules.items():
        assert torch.equal(row.down, factors[name].down) and torch.equal(row.up, factors[name].up)
        assert row.alpha == 1.5
    assert all(row.up.abs().sum() == 0 for row in adapters.lora().modules.values())
