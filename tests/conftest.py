"""One thread and deterministic algorithms, so that a test gives the same bits every time."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

# Autograd looks for devices at its first backward pass and starts threads if there are any, after
# which a forked process can run no backward. A torch.export before it makes it see one: be first.
torch.ones(1, requires_grad=True).sum().backward()

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
