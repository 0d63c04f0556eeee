"""How far does another processor's rounding move the means of the grid, in their own standard errors?

    python benchmarks/rounding.py MODEL [--schedules NAME ...] [--write FILE]

Trains the reported runs without a strategy again, at the rates that were chosen, and holds means over seeds against
the committed ones. On the machine of the committed results nothing moves; a processor without AVX-512 is played
by ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment.
"""

import argparse
from pathlib import Path

import pandas as pd

from nonconvex import config, statistics
from nonconvex.experiment import run_cohort
from nonconvex.paths import Results
from nonconvex.plan import Member
from nonconvex.records import Run, read

QUANTITIES = ("validation_loss", "validation_error")


def moved(then: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """One row per schedule and quantity; the frames hold the same runs in the same order."""
    schedules = [(name, part.index) for name, part in then.groupby("schedule", sort=False)]
    rows = [_moved(then.loc[runs, q], now.loc[runs, q]) | {"schedule": s} for s, runs in schedules for q in QUANTITIES]
    return pd.DataFrame(rows).set_index("schedule").reset_index()


def _moved(then: pd.Series, now: pd.Series) -> dict[str, str | float | int]:
    """Both means, the standard error of the committed one, the distance in it, and how many runs kept every digit."""
    old = statistics.mean(then)
    error = float(then.std()) / old.n**0.5
    apart = abs(float(now.mean()) - old.estimate) / error
    means = {"quantity": then.name, "committed": old.estimate, "again": float(now.mean()), "standard_error": error}
    return means | {"apart": apart, "unchanged": int((abs(then - now) <= 1e-8 * abs(then)).sum()), "n": old.n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--schedules", nargs="*")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    settings = config.read("params.yaml")
    then = read(Results(Path(), "cpu").runs(options.model, "none"), Run)
    then = then[(then.phase == "reported") & then.schedule.isin(options.schedules or settings.grid.schedules)]
    # as tuning runs: they train alike, and their curvature is not measured
    members = [Member(run.schedule, run.rate, run.seed, "tuning") for run in then.itertuples()]
    now = pd.DataFrame(run_cohort(settings, options.model, "none", members).runs, index=then.index)
    found = moved(then, now).round(6)
    print(found.to_string(index=False))
    if options.write:
        found.to_csv(options.write, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
