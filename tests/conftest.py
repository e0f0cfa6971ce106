"""One thread and deterministic algorithms, so that a test gives the same bits every time."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
