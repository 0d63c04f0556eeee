"""One thread everywhere: faster for small arrays, and the same sums whatever else the machine does."""

import os

os.environ |= dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")  # read on import

import torch

torch.set_num_threads(1)
