"""Which picture comes when."""

import dataclasses
from collections import Counter

import torch

from onmodel.dataset.captions import CaptionRules, captions_of
from onmodel.records import Item
from onmodel.train.loop import Example, Shown, batch_weights, epoch_batches


def example(number: int, repeats: int, size: tuple[int, int] = (12, 12)) -> Example:
    item = Item(
        "images/x.png",
        f"{number:064x}",
        96,
        96,
        "base",
        "1girl, backgwa, a, b, c",
        "",
        number,
        "train",
        "toon",
    )
    return Example(item, torch.zeros(16, *size), repeats, [])


EXAMPLES = [example(i, 2) for i in range(9)] + [example(9 + i, 3, (10, 14)) for i in range(5)]


def test_an_epoch_shows_each_picture_as_often_as_its_repeats() -> None:
    for epoch in (1, 2, 5):
        shown = Counter(
            row.example for batch in epoch_batches(EXAMPLES, epoch, 4, 1) for row in batch
        )
        assert shown == {i: one.repeats for i, one in enumerate(EXAMPLES)}


def test_every_showing_of_a_run_is_another_one() -> None:
    rows = [
        row
        for epoch in range(1, 6)
        for batch in epoch_batches(EXAMPLES, epoch, 4, 1)
        for row in batch
    ]
    assert len(set(rows)) == len(rows)
    for i, one in enumerate(EXAMPLES):
        assert sorted(row.exposure for row in rows if row.example == i) == list(
            range(5 * one.repeats)
        )


def test_batches_hold_one_size_and_are_equally_full() -> None:
    batches = epoch_batches(EXAMPLES, 1, 4, 1)
    for batch in batches:
        assert len({EXAMPLES[row.example].latents_chw.shape for row in batch}) == 1
    assert sorted(map(len, batches)) == [3, 3, 3, 4, 4, 4, 4, 4, 4]


def test_order_changes_with_epoch_and_seed_alone() -> None:
    assert epoch_batches(EXAMPLES, 1, 4, 1) == epoch_batches(EXAMPLES, 1, 4, 1)
    assert epoch_batches(EXAMPLES, 1, 4, 1) != epoch_batches(EXAMPLES, 1, 4, 2)
    orders = {
        tuple(row.example for batch in epoch_batches(EXAMPLES, e, 4, 1) for row in batch)
        for e in range(1, 6)
    }
    assert len(orders) == 5


def test_captions_of_a_run() -> None:
    captions = captions_of(EXAMPLES[0].item, 2, 6, CaptionRules(), 1)
    assert len(captions) == 12 and all(
        caption.startswith("1girl, backgwa, ") for caption in captions
    )
    assert captions[:8] + captions[:4] == captions


def test_a_batch_without_masks_and_weights_is_not_weighed() -> None:
    assert batch_weights(EXAMPLES, [Shown(0, 0), Shown(1, 0)]) is None


def test_masks_turn_with_their_pictures_and_weights_count() -> None:
    mask = torch.arange(24.0).view(4, 6)
    one = dataclasses.replace(
        example(0, 1, (4, 6)),
        flipped_chw=torch.ones(16, 4, 6),
        flips=[False, True],
        mask_hw=mask,
        weight=0.5,
    )
    plain = example(1, 1, (4, 6))
    weights = batch_weights([one, plain], [Shown(0, 0), Shown(0, 1), Shown(1, 0)])
    assert weights is not None and weights.shape == (3, 1, 4, 6)
    assert torch.equal(weights[0, 0], mask / 2) and torch.equal(weights[1, 0], mask.flip(-1) / 2)
    assert torch.equal(weights[2], torch.ones(1, 4, 6))
    assert not one.latents(0).any() and one.latents(1).all()
