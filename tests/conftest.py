"""One torch thread for every test, and float64 helpers that need no data."""

import torch

torch.set_num_threads(1)
