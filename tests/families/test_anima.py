"""The Anima family against the unchanged classes it is made of."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage, CosmosTransformer3DModel
from diffusers.models.transformers import transformer_cosmos
from peft import LoraConfig, inject_adapter_in_model

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.anima.text import AnimaText, TextEncoder, stack
from onmodel.families.settings import EmptyText
from onmodel.lora.tensors import Factors, Lora, applied
from onmodel.randomness import normal


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(normal(shape, 7, "test", *shape))


def full_rows(text: AnimaText) -> torch.Tensor:
    """What the transformer is trained on: every zero row there."""
    return F.pad(text.rows_sd, (0, 0, 0, text.zero_rows)).unsqueeze(0)


def small_lora(family: Anima) -> Lora:
    return Lora(
        {
            row.name: Factors(noise(2, row.in_features), noise(row.out_features, 2), 1.0)
            for row in family.spec.targets("attention_mlp")
        }
    )


@pytest.fixture
def with_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one call of torchvision that the unchanged transformer makes."""
    functional = SimpleNamespace(
        resize=lambda mask, size, interpolation: F.interpolate(mask, size, mode="nearest")
    )
    stand_in = SimpleNamespace(
        functional=functional, InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", stand_in, raising=False)


@pytest.mark.usefixtures("with_resize")
def test_denoise_is_the_unchanged_transformer_on_all_rows(
    tiny_family: Anima, tiny_anima: Path
) -> None:
    texts = tiny_family.encode_text(["1girl, smile", "", "a " * 600, "x"])
    assert texts[2].rows_sd.shape[0] == 1201 and texts[2].zero_rows == 0
    x, t = noise(4, 16, 8, 6), torch.tensor([0.1, 0.5, 0.9, 1.0])
    real = CosmosTransformer3DModel.from_pretrained(
        tiny_anima / "transformer", torch_dtype=torch.float32
    )
    with torch.no_grad():
        mask = torch.zeros(1, 1, 64, 48)
        expected = torch.cat(
            [
                real(
                    x[i : i + 1, :, None], t[i : i + 1], full_rows(texts[i]), padding_mask=mask
                ).sample.squeeze(2)
                for i in range(4)
            ]
        )
        got = tiny_family.denoise(x, t, texts)
        alone = torch.cat(
            [tiny_family.denoise(x[i : i + 1], t[i : i + 1], texts[i : i + 1]) for i in range(4)]
        )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1


def test_dropping_zero_rows_is_not_the_same(tiny_family: Anima) -> None:
    (text,) = tiny_family.encode_text(["1girl"])
    x, t = noise(1, 16, 4, 4), torch.tensor([0.5])
    with torch.no_grad():
        change = tiny_family.denoise(x, t, [text]) - tiny_family.denoise(
            x, t, [AnimaText(text.rows_sd, 0)]
        )
    assert change.abs().max() > 1e-2


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-3)])
def test_collapse_keeps_the_count_of_zero_rows(dtype: torch.dtype, error: float) -> None:
    counts = range(1, 512)
    rows, bias = stack([AnimaText(torch.ones(512 - count, 2), count) for count in counts], dtype)
    assert rows.shape == (511, 513, 2)
    for count, row, one in zip(counts, rows, bias, strict=True):
        assert one[512 - count :].double().exp().sum() == pytest.approx(count, rel=error)
        assert (one[: 512 - count] == 0).all()
        assert (row[512 - count :] == 0).all()


def test_a_text_without_zero_rows_attends_to_none() -> None:
    _, bias = stack([AnimaText(torch.ones(2, 2), 0), AnimaText(torch.ones(3, 2), 7)], torch.float32)
    assert (bias[0, 2:] == -math.inf).all()
    assert stack([AnimaText(torch.ones(2, 2), 0)], torch.float32)[1].shape == (1, 2)


def test_adapters_of_peft_get_gradients_through_denoise(tiny_family: Anima) -> None:
    targets = [row.diffusers for row in tiny_family.spec.targets("attention_mlp")]
    texts = tiny_family.encode_text(["1girl", "a boy, smile"])
    x, t = noise(2, 16, 4, 4), torch.tensor([0.2, 0.8])
    with torch.no_grad():
        before = tiny_family.denoise(x, t, texts)
    inject_adapter_in_model(
        LoraConfig(r=2, target_modules=targets, lora_alpha=1), tiny_family.backbone
    )
    out = tiny_family.denoise(x, t, texts)
    torch.testing.assert_close(out, before)
    out.square().mean().backward()
    gradients = [p.grad for n, p in tiny_family.backbone.named_parameters() if "lora_B" in n]
    assert len(gradients) == len(targets)
    assert all(g is not None and g.abs().max() > 0 for g in gradients)


def test_a_text_made_while_sampling_can_be_trained_on(tiny_family: Anima) -> None:
    with torch.inference_mode():
        (text,) = tiny_family.encode_text(["1girl"])
    assert not text.rows_sd.is_inference()
    assert tiny_family.encode_text(["1girl"])[0] is text


def test_applied_adds_the_change_and_takes_it_back_exactly(tiny_family: Anima) -> None:
    lora = small_lora(tiny_family)
    before = {name: tensor.clone() for name, tensor in tiny_family.backbone.state_dict().items()}
    with applied(tiny_family, lora, 0.5), applied(tiny_family, lora, 0.25):
        for row in tiny_family.spec.linears:
            weight = tiny_family.backbone.get_submodule(row.diffusers).weight
            change = 0.75 * lora.modules[row.name].delta() if row.name in lora.modules else 0.0
            torch.testing.assert_close(weight, before[f"{row.diffusers}.weight"] + change)
    with pytest.raises(RuntimeError, match="stop"), applied(tiny_family, lora, 1.0):
        raise RuntimeError("stop")
    after = tiny_family.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_applied_refuses_what_does_not_fit(tiny_family: Anima) -> None:
    factors = Factors(torch.ones(2, 32), torch.ones(32, 2), 1.0)
    for modules, message in (
        ({}, "changes no layer"),
        ({"blocks.9.self_attn.q_proj": factors}, "is not a layer"),
        ({"blocks.0.mlp.layer1": factors}, "has .* there"),
    ):
        with pytest.raises(InputError, match=message), applied(tiny_family, Lora(modules), 1.0):
            pass


def test_codec_is_the_unchanged_vae_for_one_frame(tiny_family: Anima, tiny_anima: Path) -> None:
    vae = AutoencoderKLQwenImage.from_pretrained(tiny_anima / "vae", torch_dtype=torch.float32)
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    images, latents = noise(2, 3, 64, 48).clamp(-1, 1), noise(2, 16, 8, 6)
    with torch.no_grad():
        encoded = ((vae.encode(images.unsqueeze(2)).latent_dist.mode() - mean) / std).squeeze(2)
        decoded = vae.decode(latents.unsqueeze(2) * std + mean).sample.squeeze(2)
    torch.testing.assert_close(tiny_family.encode_images(images), encoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tiny_family.decode_latents(latents), decoded, rtol=1e-4, atol=1e-5)
    assert (decoded.abs() < 1).float().mean() > 0.5


def test_what_a_caption_loses_is_told(tiny_family: Anima) -> None:
    assert tiny_family.text_losses("1girl, 猫, 猫, 犬") == ["the T5 tokenizer does not know 犬 猫"]
    assert tiny_family.text_losses("1girl, smile" * 200) == []


def test_a_weight_multiplies_the_rows_of_its_words(tiny_family: Anima) -> None:
    (whole,) = tiny_family.encode_prompts(["smile"])
    assert whole is tiny_family.encode_text(["smile"])[0]
    (weighted,) = tiny_family.encode_prompts(["(smile:1.5)"])
    torch.testing.assert_close(weighted.rows_sd[:-1], whole.rows_sd[:-1] * 1.5)
    assert torch.equal(weighted.rows_sd[-1], whole.rows_sd[-1])  # T5's ending has no weight
    assert weighted.zero_rows == whole.zero_rows


def test_words_of_one_weight_are_tokenised_apart(tiny_family: Anima) -> None:
    tokenize = tiny_family._text.t5_tokenizer
    (parts,) = tiny_family.encode_prompts(["1girl, (smile:0.5), sad"])
    apart = [tokenize(words).input_ids[:-1] for words in ("1girl, ", "smile", ", sad")]
    assert len(parts.rows_sd) == sum(map(len, apart)) + 1


def test_escapes_are_the_characters_themselves(tiny_family: Anima) -> None:
    (prompt,) = tiny_family.encode_prompts(["saber @(fate@)".replace("@", chr(92))])
    assert prompt is tiny_family.encode_text(["saber (fate)"])[0]


def test_an_empty_prompt_of_comfyui_is_one_padding_token_that_is_seen(tiny_family: Anima) -> None:
    encoder = tiny_family._text
    assert isinstance(encoder, TextEncoder)
    (found,) = tiny_family.encode_prompts([""], "comfyui")
    with torch.no_grad():
        states = tiny_family.component("text_encoder")(
            torch.tensor([[encoder.tokenizer.pad_token_id]])
        ).last_hidden_state
        conditioner = tiny_family.component("text_conditioner")
        rows = conditioner(states, torch.tensor([encoder.t5_tokenizer("").input_ids]))[0]
    torch.testing.assert_close(found.rows_sd, rows[: len(found.rows_sd)], rtol=1e-5, atol=1e-6)
    (plain,) = tiny_family.encode_prompts([""])
    assert plain is tiny_family.encode_text([""])[0]
    assert (found.rows_sd - plain.rows_sd).abs().max() > 1e-3
    assert found.zero_rows == plain.zero_rows


def test_a_prompt_with_words_is_the_same_for_both_programs(tiny_family: Anima) -> None:
    one, other = (tiny_family.encode_prompts(["smile"], name)[0] for name in get_args(EmptyText))
    assert torch.equal(one.rows_sd, other.rows_sd)
