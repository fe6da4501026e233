"""Latents that are kept: whatever was asked for before in a folder, what comes back is what is
asked for now."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from onmodel.dataset.buckets import load_pixels
from onmodel.dataset.latents import View, encode_pictures
from onmodel.events import Events
from onmodel.hashing import sha256_bytes

SIZES = [(32, 32), (32, 48), (64, 32)]


def family(base: str) -> Any:
    """A base whose latents are the pixels' means and its own name."""
    own = len(base)

    def encode(images: torch.Tensor) -> torch.Tensor:
        assert len(images) == 1
        return nn.functional.avg_pool2d(images, 8) + own

    return SimpleNamespace(sha256=base, device=torch.device("cpu"), encode_images=encode)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for i in range(3):
        data = io.BytesIO()
        noise = np.random.default_rng(i).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data, "PNG")
        paths.append(folder / f"{sha256_bytes(data.getvalue())}.png")
        paths[-1].write_bytes(data.getvalue())
    return paths


WANTED = st.sets(
    st.tuples(st.integers(0, 2), st.sampled_from(SIZES), st.booleans()), min_size=1, max_size=5
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(WANTED, st.sampled_from(["a", "ab"])), min_size=2, max_size=4))
def test_no_setting_makes_a_stale_cache(
    pictures: list[Path], tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[set[Any], str]]
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    for wanted, base in runs:
        views = [View(pictures[i], size, flip) for i, size, flip in sorted(wanted)]
        found = encode_pictures(family(base), views, folder, Events())
        assert list(found) == views
        for view, latents in found.items():
            pixels = load_pixels(view.path, view.size)[:, :, :: -1 if view.flip else 1]
            expected = family(base).encode_images(torch.from_numpy(pixels.copy())[None])[0]
            assert torch.equal(latents, expected)


def test_what_is_kept_is_not_encoded_again(pictures: list[Path], tmp_path: Path) -> None:
    views = [View(pictures[0], (32, 32), flip) for flip in (False, True)]
    asked: list[int] = []
    base = family("a")
    encode = base.encode_images
    base.encode_images = lambda images: (asked.append(1), encode(images))[1]
    for _ in range(2):
        encode_pictures(base, views, tmp_path, Events())
    assert len(asked) == 2
