"""How many runs per minute does training in cohorts give, against the same runs one at a time?

    python benchmarks/cohorts.py [--params FILE] [--model NAME] [--members N] [--steps N] [--repeats N]

One process, one thread, the same runs by the same loop: once as a cohort of N members, once as N cohorts of a single
member. The two take turns, so that a drift of the machine's speed meets both; the ratio is taken within each turn.
"""

import argparse
import statistics
import time

import torch

from nonconvex import config, train
from nonconvex.beds import Bed, bed_of
from nonconvex.experiment import cohort_of
from nonconvex.models.stacked import stack
from nonconvex.plan import Member


def seconds(bed: Bed, members: list[Member], steps: int) -> float:
    """Time of `steps` updates of one cohort, its set-up left out, as both ways of training pay it once per run."""
    network, params = stack(bed.build, [member.seed for member in members], bed.device)
    cohort = cohort_of(bed, network, "none", members, fork=0.0)
    state = train.advance(cohort, train.start(cohort, params), 0)  # the first step loads code
    start = time.perf_counter()
    for _ in train.train(cohort, state, until=steps + 1):
        pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--model", default="resnet")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = config.read(options.params)
    bed = bed_of(settings, options.model)
    rate = sorted(bed.training.rates)[len(bed.training.rates) // 2]
    members = [Member("cosine", rate, seed, "reported") for seed in range(options.members)]
    ratios = []
    for _ in range(options.repeats):
        together = seconds(bed, members, options.steps)
        alone = sum(seconds(bed, [member], options.steps) for member in members)
        ratios.append(alone / together)
        per_minute = [60 * options.members * options.steps / (t * bed.training.steps) for t in (together, alone)]
        print(f"{per_minute[0]:.1f} runs per minute in a cohort, {per_minute[1]:.1f} alone: {ratios[-1]:.2f}x")
    print(
        f"{options.model}, {options.members} members: median {statistics.median(ratios):.2f}x "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {options.repeats} turns)"
    )


if __name__ == "__main__":
    main()
