"""The held-out split of a data set."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from onmodel.randomness import generator
from onmodel.records import Item


def split(
    items: Sequence[Item],
    groups: Sequence[int],
    shares: Mapping[str, float],
    whole: Collection[str],
    seed: int,
) -> list[Item]:
    """Set the group and the split of every item, as `held_out` draws them."""
    held = held_out([item.subset for item in items], groups, shares, whole, seed)
    return [
        replace(item, group=group, split="heldout" if group in held else "train")
        for item, group in zip(items, groups, strict=True)
    ]


def held_out(
    subsets: Sequence[str],
    groups: Sequence[int],
    shares: Mapping[str, float],
    whole: Collection[str],
    seed: int,
) -> set[int]:
    """The groups that are held out, of pictures given by their subset and group. A group of repeats
    is held out as a whole, in all subsets: otherwise training would see a repeat of a held-out
    picture.

    `shares`: subset → share (0–1) of its groups to hold out: at least one group and never all,
    drawn at random. Subsets in `whole` are held out entirely.
    """
    held = set()
    groups_of: dict[str, set[int]] = {subset: set() for subset in shares}
    for group, subset in zip(groups, subsets, strict=True):
        groups_of[subset].add(group)
        if subset in whole:
            held.add(group)
    for subset, share in shares.items():
        own = sorted(groups_of[subset])
        if not share or subset in whole or len(own) < 2:
            continue
        wanted = min(max(1, round(share * len(own))), len(own) - 1)
        order = generator(seed, "held out", subset).permutation(len(own))
        free = [own[i] for i in order if own[i] not in held]
        held |= set(free[: max(0, wanted - (len(own) - len(free)))])
    return held
