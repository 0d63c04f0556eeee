"""What the numbers were measured on, and how fast it is at best."""

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.turns import seconds

ORDER = 2048  # of the matrices whose product gives the peak
MIB = 2**20


@dataclass(frozen=True)
class Machine:
    """`gflops` is the best single-precision matrix product, one thread on a CPU; `gbytes` the best copy, per second."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    torch: str
    device: str
    gflops: float
    gbytes: float


def describe(device: str) -> Machine:
    """The machine without its name, its peaks measured on the spot."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        python=platform.python_version(),
        torch=version("torch").split("+")[0],
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        gflops=peak_gflops(device),
        gbytes=peak_gbytes(device),
    )


def _processor() -> str:
    """Maker and family, and the vector instructions that decide a CPU's peak."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    wide = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in text), "")
    return ", ".join(filter(None, [model[1].strip() if model else platform.processor() or "unknown", wide]))


def peak_gflops(device: str, order: int = ORDER, tries: int = 5) -> float:
    """2 n³ over the shortest time of an n x n product in float32."""
    a, b = torch.rand(2, order, order, device=device)
    return 2 * order**3 / min(seconds(lambda: a @ b, device) for _ in range(tries)) / 1e9


def peak_gbytes(device: str, size: int = 128 * MIB, tries: int = 5) -> float:
    """Bytes read and written over the shortest time of a copy that no cache holds."""
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / min(seconds(lambda: b.copy_(a), device) for _ in range(tries)) / 1e9
