"""The text side of the toon SDXL base: one byte-level BPE vocabulary in CLIP's class for both
tokenizers, and two small CLIP text models, trained with the UNet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from onmodel.toon.attributes import sample_toon

from ..common import SEED, Settings, log
from ..text import QUALITY, caption

WIDTH = 96  # of each text model; the UNet sees both side by side
CHUNK = 77  # tokens with the first and the last mark, as CLIP's
START, END = "<|startoftext|>", "<|endoftext|>"
# What CLIP's tokenizer cuts a text into before it looks for pairs.
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def build_tokenizers(settings: Settings) -> None:
    """Writes work/sdxl-tokenizers/tokenizer and tokenizer_2, which pads with "!" as SDXL's does."""
    folder = settings.work / "sdxl-tokenizers"
    if folder.exists():
        return
    rng = np.random.default_rng([SEED, 12])
    corpus = [caption(sample_toon(rng), "", rng, i % 3 == 0) for i in range(4000)]
    corpus += [", ".join(QUALITY)] * 50
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1300,
        min_frequency=20,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    letters = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    known = dict.fromkeys([*letters, *("".join(merge) for merge in merges), START, END])
    vocab = {token: number for number, token in enumerate(known)}
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        made = CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=CHUNK)
        made.save_pretrained(temporary / name)
    temporary.rename(folder)
    ids = made(corpus[7]).input_ids
    log(settings, "sdxl tokenizers", f"{len(vocab)} tokens; {corpus[7]!r}: {len(ids)} tokens")


def _config(vocab: dict[str, int], act: str, pad: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=CHUNK,
        hidden_act=act,
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=pad,
        attn_implementation="eager",
    )


class TextSide(nn.Module):
    """Both tokenizers and text models: captions → what the UNet is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tokenizers = [
            CLIPTokenizer.from_pretrained(folder / name) for name in ("tokenizer", "tokenizer_2")
        ]
        vocab = self.tokenizers[0].get_vocab()
        torch.manual_seed(SEED + 11)
        first, second = (
            _config(vocab, act, tokenizer.pad_token_id)
            for act, tokenizer in zip(("quick_gelu", "gelu"), self.tokenizers, strict=True)
        )
        self.text_encoder = CLIPTextModel(first)
        self.text_encoder_2 = CLIPTextModelWithProjection(second)
        for name, parameter in self.named_parameters():
            if name.endswith("token_embedding.weight"):
                nn.init.normal_(parameter, std=0.5)
            elif name.endswith("position_embedding.weight"):
                nn.init.normal_(parameter, std=0.1)

        # The U-Net is told the states before the first model's last layer: that is never trained.
        unused = [self.text_encoder.encoder.layers[-1], self.text_encoder.final_layer_norm]
        for layer in unused:
            layer.requires_grad_(False)

    def ids(self, captions: list[str]) -> list[Tensor]:
        """Token ids [B,77] of each tokenizer; what is longer is cut off."""
        return [
            tokenizer(
                captions,
                padding="max_length",
                max_length=CHUNK,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokenizer in self.tokenizers
        ]

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """States before the last layer of both side by side [B,77,192], and the second's pooled
        projection [B,96]."""
        one = self.text_encoder(first, output_hidden_states=True)
        two = self.text_encoder_2(second, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds
