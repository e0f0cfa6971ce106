"""Every random draw names what it is for, so that none depends on how many came before it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from pruning.errors import PruningError


def generator(seed: int, purpose: str, *position: int) -> torch.Generator:
    """Return the generator on the CPU that belongs to `seed`, `purpose` and a position in it.

    The same arguments always give the same numbers, whatever was drawn elsewhere; the position is
    a step, an epoch or a repeat. Raises `PruningError` for a negative seed.
    """
    if seed < 0:
        raise PruningError(f"seed {seed!r} for {purpose} is negative; choose 0 or more")
    # torch's Mersenne twister reads the lowest 32 bits alone, so the key is hashed into 32.
    key = np.random.SeedSequence((seed, zlib.crc32(purpose.encode()), *position))
    return torch.Generator().manual_seed(int(key.generate_state(1)[0]))


@contextmanager
def seeded(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let what draws from the global generators follow `generator`, then put these back.

    They are those of the CPU and of the CUDA devices that hold `model`.
    """
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng([*devices]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        yield
