"""Captions to SDXL's text: the states of both CLIP text encoders side by side, in chunks of 77
tokens, and the second encoder's pooled projection of the first chunk.

A longer caption is cut into chunks of 75 tokens, each between CLIP's first and last mark, as
ComfyUI, A1111 and sd-scripts do. Where captions of a batch differ in length, the U-Net does not see
the rows that the shorter ones lack, so a caption's text never depends on its neighbours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from onmodel.families.parts import LazyPart
from onmodel.families.protocol import EmptyText, Text
from onmodel.prompt_syntax import Segment, segments

CHUNK = 75  # tokens of a caption in one pass of a text encoder
ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class SdxlText:
    """An encoded caption: rows [chunks · 77, D] and the pooled projection [P]."""

    rows_sd: Tensor
    pooled: Tensor

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.rows_sd.to(device), self.pooled.to(device))

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows_sd, "pooled": self.pooled}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The reverse of `tensors()`."""
        return cls(tensors["rows"], tensors["pooled"])


class TextEncoder:
    """Encodes captions one at a time and remembers them. `skip` is A1111's clip skip: the states
    of the layer so far from the end are read, 2 for SDXL."""

    def __init__(
        self, encoders: Mapping[str, LazyPart], tokenizers: Sequence[Any], skip: int
    ) -> None:
        self._encoders, self.tokenizers, self._skip = encoders, tuple(tokenizers), skip
        self._known: dict[tuple[Segment, ...], SdxlText] = {}

    def encode(self, captions: Sequence[str]) -> list[SdxlText]:
        return [self._remembered((Segment(caption),)) for caption in captions]

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[SdxlText]:
        """As ComfyUI does for SDXL: a weight multiplies how far the rows of its tokens are from
        those of an empty prompt. An empty prompt is encoded like any other everywhere."""
        return [self._remembered(tuple(segments(prompt))) for prompt in prompts]

    def _remembered(self, caption: tuple[Segment, ...]) -> SdxlText:
        if caption not in self._known:
            self._known[caption] = self._encode(caption)
        return self._known[caption]

    # Not under a caller's inference mode: its tensors could not be used in training afterwards.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode(self, caption: tuple[Segment, ...]) -> SdxlText:
        sides, pooled = [], torch.empty(0)
        for name, tokenizer in zip(ENCODERS, self.tokenizers, strict=True):
            ids, weights = _tokens(tokenizer, caption)
            model = self._encoders[name].model
            weighted = any(weight != 1.0 for weight in weights)
            chunks = _chunks(tokenizer, [*ids, []] if weighted else ids)
            out = model(chunks.to(model.device), output_hidden_states=True)
            rows_csd = out.hidden_states[-self._skip]
            if weighted:
                empty_sd = rows_csd[-1]
                scale = _in_chunks(weights, len(ids)).to(rows_csd).unsqueeze(2)
                rows_csd = empty_sd + (rows_csd[:-1] - empty_sd) * scale
            sides.append(rows_csd.flatten(0, 1))
            if name == ENCODERS[-1]:
                pooled = out.text_embeds[0].clone()
        return SdxlText(torch.cat(sides, dim=1), pooled)


def _tokens(tokenizer: Any, caption: tuple[Segment, ...]) -> tuple[list[list[int]], list[float]]:
    """The token ids of a caption in chunks, at least one, and the weight of each token."""
    ids: list[int] = []
    weights: list[float] = []
    for segment in caption:
        own = tokenizer(segment.text, truncation=False, verbose=False).input_ids[1:-1]
        ids += own
        weights += [segment.weight] * len(own)
    return [ids[start : start + CHUNK] for start in range(0, max(len(ids), 1), CHUNK)], weights


def _chunks(tokenizer: Any, chunks: Sequence[Sequence[int]]) -> Tensor:
    """Chunks of at most 75 tokens with their marks and padding [chunks, 77]."""
    first, last, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = [[first, *ids, last, *[pad] * (CHUNK - len(ids))] for ids in chunks]
    return torch.tensor(rows, dtype=torch.long)


def _in_chunks(weights: Sequence[float], count: int) -> Tensor:
    """The weight of every row [chunks, 77]: 1 for marks and padding."""
    found = torch.ones(count, CHUNK + 2)
    for place, weight in enumerate(weights):
        found[place // CHUNK, 1 + place % CHUNK] = weight
    return found


def stack(texts: Sequence[Text], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """Texts as one batch in `dtype`: rows [B, S, D], pooled [B, P], and the bias [B, S] on their
    attention scores that hides what shorter texts lack; None where all are equally long."""
    own = [text for text in texts if isinstance(text, SdxlText)]
    assert len(own) == len(texts), "texts of another family"
    length = max(len(text.rows_sd) for text in own)
    pooled = torch.stack([text.pooled for text in own]).to(dtype)
    if all(len(text.rows_sd) == length for text in own):
        return torch.stack([text.rows_sd for text in own]).to(dtype), pooled, None
    first = own[0].rows_sd
    rows_bsd = first.new_zeros(len(own), length, first.shape[1], dtype=dtype)
    bias_bs = first.new_zeros(len(own), length, dtype=dtype)
    for place, text in enumerate(own):
        count = len(text.rows_sd)
        rows_bsd[place, :count] = text.rows_sd.to(dtype)
        bias_bs[place, count:] = -math.inf
    return rows_bsd, pooled, bias_bs
