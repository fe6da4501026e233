"""Training of what encodes text: the right function, the right gradient, no trace afterwards, and
rates of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.func import functional_call

from onmodel.dataset.texts import encode_captions
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima.family import Anima
from onmodel.lora.tensors import applied, read_lora
from onmodel.randomness import normal
from onmodel.sample.sampler import Job, sample
from onmodel.sample.sampling import Sampling
from onmodel.train.adapters import Trained, attached
from onmodel.train.networks import layer_rates, make_network, text_rates, trained_layers
from onmodel.train.optimizers import make_optimizer, restore, state_of
from onmodel.train.options import Options

CPU = torch.device("cpu")
CAPTIONS = ["1girl, smile", ""]
CONDITIONER, ENCODER = {"train_text_conditioner": True}, {"train_text_encoder": True}
BOTH = CONDITIONER | ENCODER
EACH = pytest.mark.parametrize("parts", [CONDITIONER, ENCODER, BOTH], ids=["c", "e", "both"])


def options(**changes: Any) -> Options:
    table = {"epochs": 1, "learning_rate": 1e-3, "rank": 2, "alpha": 3}
    return Options(**(table | changes))


def moved(family: Anima, chosen: Options) -> Trained:
    """A network with a change in every layer."""
    network = make_network(family, chosen, trained_layers(family.spec, chosen), 1, CPU)
    with torch.no_grad():
        for name, roles in network.parts.items():
            roles["up"].copy_(torch.from_numpy(normal(tuple(roles["up"].shape), 2, name)) * 0.2)
    return network


@contextmanager
def trained(family: Anima, chosen: Options, network: Trained) -> Iterator[list[Any]]:
    """The texts of the captions, while the network is trained."""
    with family.training_text(text_rates(family.spec, chosen)):
        texts = family.encode_text(CAPTIONS)
        family.release()
        with attached(family, network, torch.float32), family.training():
            yield texts


def inputs() -> tuple[Tensor, Tensor]:
    return torch.from_numpy(normal((2, 16, 8, 6), 0, "latents")), torch.tensor([0.3, 0.8])


def plain_velocity(family: Anima, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """The same from the classes' own forwards on W + alpha/rank·up·down, one caption at a time, all
    512 rows and no mask."""
    rows = {row.name: row for row in family.spec.lora_linears}
    weights: dict[str | None, dict[str, Tensor]] = {}
    for component in (None, "text_conditioner", "text_encoder"):
        weights[component] = dict(family.component(component).named_parameters())
    for name, (down, up) in factors.items():
        place = f"{rows[name].diffusers}.weight"
        own = weights[rows[name].component]
        own[place] = own[place] + 1.5 * up @ down
    x_bchw, t_b = inputs()
    texts = []
    for caption in CAPTIONS:
        ids = torch.tensor([family._text.tokenizer(caption).input_ids], dtype=torch.long)
        t5_ids = torch.tensor([family._text.t5_tokenizer(caption).input_ids])
        encoder = family.component("text_encoder")
        states, mask = torch.zeros(1, 1, 32), torch.zeros(1, 1)
        if ids.shape[1]:
            found = functional_call(encoder, weights["text_encoder"], (ids,))
            states, mask = found.last_hidden_state, torch.ones_like(ids)
        reads = {"source_attention_mask": mask}
        conditioner = family.component("text_conditioner")
        texts.append(
            functional_call(conditioner, weights["text_conditioner"], (states, t5_ids), reads)
        )
    x_bcthw = torch.cat([x_bchw, x_bchw.new_zeros(2, 1, 8, 6)], dim=1).unsqueeze(2)
    given = (x_bcthw, t_b, torch.cat(texts))
    (velocity,) = functional_call(family.backbone, weights[None], given, {"return_dict": False})
    return velocity.squeeze(2)  # type: ignore[no-any-return]


@EACH
def test_velocity_and_gradients_are_those_of_plain_torch(
    tiny_family: Anima, parts: dict[str, bool]
) -> None:
    chosen = options(**parts)
    network = moved(tiny_family, chosen)
    with trained(tiny_family, chosen, network) as texts:
        own = tiny_family.denoise(*inputs(), texts)
        own.square().mean().backward()
    factors = {
        name: tuple(view.detach().clone().requires_grad_() for view in roles.values())
        for name, roles in network.parts.items()
    }
    plain = plain_velocity(tiny_family, factors)  # type: ignore[arg-type]
    plain.square().mean().backward()
    torch.testing.assert_close(own, plain, rtol=0, atol=2e-5)
    for name, roles in network.parts.items():
        for view, other in zip(roles.values(), factors[name], strict=True):
            assert view.grad is not None and other.grad is not None and view.grad.any()
            torch.testing.assert_close(view.grad, other.grad, rtol=2e-3, atol=2e-6)


@EACH
def test_gradients_reach_only_what_is_trained_and_the_base_comes_back(
    tiny_family: Anima, parts: dict[str, bool]
) -> None:
    chosen = options(**parts)
    network = moved(tiny_family, chosen)
    trains = {row.component for row in tiny_family.spec.lora_linears if row.name in network.parts}
    assert trains == {None, *(name.removeprefix("train_") for name in parts)}
    before = tiny_family.encode_text(CAPTIONS)
    with trained(tiny_family, chosen, network) as texts:
        tiny_family.denoise(*inputs(), texts).sum().backward()
    for component in (None, "text_conditioner", "text_encoder"):
        model = tiny_family.component(component)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any("LoraLinear" in type(module).__name__ for module in model.modules())
    after = tiny_family.encode_text(CAPTIONS)
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_only_the_blocks_of_what_encodes_text_are_trained(tiny_family: Anima) -> None:
    off, on = (trained_layers(tiny_family.spec, options(**parts)) for parts in ({}, BOTH))
    text = [row.name for row in tiny_family.spec.text_linears]
    assert len(off) == 20 and list(on)[:20] == list(off)
    assert [name for name in text if name not in on] == [
        "llm_adapter.in_proj",
        "llm_adapter.out_proj",
    ]
    ranked = options(**CONDITIONER, ranks=[{"layers": "llm_adapter.*", "rank": 1}])
    assert trained_layers(tiny_family.spec, ranked)["llm_adapter.blocks.0.mlp.0"] == (1, 1.5)


@EACH
@pytest.mark.parametrize("network", ["lora", "dora", "lokr"])
def test_a_saved_file_draws_the_picture_of_the_model_in_memory(
    tiny_family: Anima, tmp_path: Path, parts: dict[str, bool], network: str
) -> None:
    chosen = options(**parts, network=network)
    made = make_network(tiny_family, chosen, trained_layers(tiny_family.spec, chosen), 1, CPU)
    with torch.no_grad():
        made.flat.add_(0.05)
    job = Job("1girl, (smile:1.3)", "a", 3, 64, 48)
    plain = sample(tiny_family, [job], Sampling(3, 2.0))
    with trained(tiny_family, chosen, made):
        drawn = sample(tiny_family, [job], Sampling(3, 2.0))
    made.payload("F32").write(tmp_path / "x.safetensors", {})
    lora = read_lora(tmp_path / "x.safetensors", tiny_family.spec, dora=True)
    assert set(lora.modules) == set(made.parts)
    with applied(tiny_family, lora, 1.0):
        torch.testing.assert_close(
            sample(tiny_family, [job], Sampling(3, 2.0)), drawn, rtol=0, atol=2e-3
        )
    assert (drawn - plain).abs().max() > 0.05


def test_prompts_follow_the_weights_of_now(tiny_family: Anima) -> None:
    chosen = options(**BOTH)
    network = moved(tiny_family, chosen)
    job = Job("1girl", "", 3, 64, 48)
    with trained(tiny_family, chosen, network):
        first = sample(tiny_family, [job], Sampling(2, 2.0))
        with torch.no_grad():
            for name, roles in network.parts.items():
                if not name.startswith("blocks."):
                    roles["up"].zero_()
        assert not torch.equal(sample(tiny_family, [job], Sampling(2, 2.0)), first)


@EACH
def test_the_cache_of_captions_holds_what_the_frozen_parts_give(
    tiny_family: Anima, tmp_path: Path, parts: dict[str, bool]
) -> None:
    components = text_rates(tiny_family.spec, options(**parts))
    whole = encode_captions(tiny_family, CAPTIONS, tmp_path, Events())
    assert set(whole["1girl, smile"].tensors()) == {"rows", "zero_rows"}
    for _ in range(2):  # encoded, then mapped
        with tiny_family.training_text(components):
            found = encode_captions(tiny_family, CAPTIONS, tmp_path, Events(), components)
        source = found["1girl, smile"].tensors()["source"]
        assert source.is_floating_point() is ("train_text_encoder" not in parts)
        assert found[""].tensors()["source"].shape[0] == 0
        with torch.no_grad():
            velocity = tiny_family.denoise(*inputs(), [found[caption] for caption in CAPTIONS])
            expected = tiny_family.denoise(*inputs(), tiny_family.encode_text(CAPTIONS))
        assert torch.equal(velocity, expected)
    again = encode_captions(tiny_family, CAPTIONS, tmp_path, Events())
    assert torch.equal(again[""].tensors()["rows"], whole[""].tensors()["rows"])


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "came"])
def test_each_part_is_trained_at_its_rate(tiny_family: Anima, optimizer: str) -> None:
    chosen = options(**BOTH, optimizer=optimizer, weight_decay=0.0, text_encoder_rate=1e-4)
    network = moved(tiny_family, chosen)
    made = make_optimizer(chosen, network, layer_rates(tiny_family.spec, chosen))
    assert [group["share"] for group in made.param_groups] == pytest.approx([1.0, 0.1])
    before = {name: roles["up"].clone() for name, roles in network.parts.items()}
    network.gradient.fill_(1.0)
    for group in made.param_groups:
        group["lr"] = 1e-3 * group["share"]
    made.step()
    moves: dict[bool, set[float]] = {True: set(), False: set()}
    for name, roles in network.parts.items():
        move = (before[name] - roles["up"]).abs().mean().item()
        moves[name.startswith("text_encoders.")].add(move)
    assert max(moves[True]) == pytest.approx(0.1 * max(moves[False]), rel=0.1)
    assert min(moves[True]) == pytest.approx(0.1 * min(moves[False]), rel=0.1)
    tensors, numbers = state_of(made)
    fresh = make_optimizer(chosen, network, layer_rates(tiny_family.spec, chosen))
    restore(fresh, tensors, numbers)
    assert state_of(fresh)[1] == numbers and set(state_of(fresh)[0]) == set(tensors)


def test_one_rate_for_all_is_one_group(tiny_family: Anima) -> None:
    chosen = options(**BOTH)
    network = moved(tiny_family, chosen)
    made = make_optimizer(chosen, network, layer_rates(tiny_family.spec, chosen))
    assert [group["params"] for group in made.param_groups] == [[network.flat]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_encoder_rate": 1e-5}, "train_text_encoder = true"),
        ({"text_conditioner_rate": 1e-5, **ENCODER}, "train_text_conditioner = true"),
        ({"text_encoder_rate": 0.0, **ENCODER}, "greater than 0"),
        ({"optimizer": "prodigy", "text_encoder_rate": 0.5, **ENCODER}, "one rate for all"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        options(**changes)


def test_a_base_without_the_part_is_refused(tiny_family: Anima) -> None:
    from dataclasses import replace

    spec = replace(tiny_family.spec, text_linears=())
    with pytest.raises(InputError, match=r"train_text_encoder.*Anima has no text encoder"):
        trained_layers(spec, options(**ENCODER))
