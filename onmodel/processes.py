"""The processes that share one run: `torchrun` or `accelerate launch` starts several, each with its
rank.

All of them compute, the first alone writes. Nothing here loads torch unless there are several.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from onmodel.devices import find_device, select

if TYPE_CHECKING:
    from torch import Tensor

# A process may wait for the first while that evaluates for hours; one that dies is noticed by the
# launcher.
_PATIENCE = timedelta(days=30)


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows cannot say more


@dataclass(frozen=True)
class Processes:
    """This process's `rank` (from 0) among `count`. Every method is called by all of them or by
    none."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Is this the one that writes?"""
        return self.rank == 0

    def add(self, tensor: "Tensor") -> None:
        """Put the sum over the processes in the tensor's place, the same bits in each of them."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.all_reduce(tensor)

    def wait(self) -> None:
        """Until all are here."""
        self.agree(True)

    def agree(self, flag: bool) -> bool:
        """What the first process says."""
        if self.count == 1:
            return flag
        import torch

        said = torch.tensor(int(flag and self.first), device=find_device("auto", "device"))
        self.add(said)
        return bool(said.item())


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Meet the other processes that a launcher started, and part from them; without a launcher this
    one is alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    import torch.distributed

    device = find_device("auto", "device")
    select(torch.device(device.type, int(os.environ["LOCAL_RANK"])))
    backend = torch.distributed.get_default_backend_for_device(device)
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    yield Processes(torch.distributed.get_rank(), count)
    # not after an error: the others might still be waiting for this one
    torch.distributed.destroy_process_group()
