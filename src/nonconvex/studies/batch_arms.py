"""Which runs the study of flat and sharp minima needs: batch sizes, each at its tuned rate, under three accountings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from nonconvex.observations.flat_vs_sharp import Arm, Trial
from nonconvex.studies.draws import Drawn
from nonconvex.study_settings.properties import BatchSizes, FlatVsSharp


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    model: str
    budget: str
    batch_size: int
    rate: float
    labels: str
    draw: str
    seed: int

    @property
    def group(self) -> tuple[str, str, int, str]:
        """What the members of a cohort share."""
        return self.model, self.budget, self.batch_size, self.labels

    def followed(self, how: BatchSizes) -> bool:
        """Whether its training loss is followed and its end measured in full."""
        return (self.budget, self.labels) == (how.budgets[0], "true")


def steps_of(how: BatchSizes, budget: str, batch_size: int, examples: int) -> int:
    """Updates of a run; as many epochs over `examples` take fewer of larger batches."""
    return how.steps if budget == "steps" else how.epochs * (examples // batch_size)


def tuning_cells(study: FlatVsSharp, model: str) -> list[Cell]:
    """Every batch size at every rate of its grid."""
    how = study.beds[model]
    return [
        Cell(model, budget, size, rate, "true", "own", seed)
        for budget in how.budgets
        for size, grid in zip(how.batch_sizes, how.rates, strict=True)
        for rate in grid
        for seed in study.tuning
    ]


def arms_of(study: FlatVsSharp, model: str, trials: Sequence[Trial], examples: int) -> list[Arm]:
    """The arms of a bed at their tuned rates and, where the accountings ask for it, all at the small batch's."""
    how, arms = study.beds[model], []
    for budget in how.budgets:
        tuned = [_arm(how, model, budget, size, trials, examples) for size in how.batch_sizes]
        arms += tuned
        if f"same_rate_{budget}" in how.accountings:
            own = tuned[how.batch_sizes.index(how.small)]
            arms += [replace(a, accounting=f"same_rate_{budget}", rate=own.rate, interior=own.interior) for a in tuned]
    return arms


def _arm(how: BatchSizes, model: str, budget: str, size: int, trials: Sequence[Trial], examples: int) -> Arm:
    of_arm = [t for t in trials if (t.model, t.budget, t.batch_size) == (model, budget, size)]
    grid = how.rates[how.batch_sizes.index(size)]
    rate = best_rate(grid, of_arm)
    role = {how.small: "small", how.large: "large"}.get(size, "other")
    steps = steps_of(how, budget, size, examples)
    return Arm(model, f"tuned_{budget}", budget, size, role, steps, rate, int(rate in grid[1:-1]), len(of_arm))


def best_rate(grid: Sequence[float], trials: Sequence[Trial]) -> float:
    """The rate of least mean validation error; one that diverged for any seed only where all did, then the least."""
    errors = {rate: [trial.validation_error for trial in trials if trial.rate == rate] for rate in grid}
    means = {rate: sum(found) / len(found) for rate, found in errors.items() if found and None not in found}
    return min(means or grid, key=lambda rate: (means.get(rate, 0.0), rate))


def reported_cells(study: FlatVsSharp, arms: Sequence[Arm]) -> list[Cell]:
    """Every training of a reported seed, once, though several arms may share it."""
    cells: dict[Cell, None] = {}
    for arm in arms:
        of_arm = partial(Cell, arm.model, arm.budget, arm.batch_size)
        cells |= dict.fromkeys(of_arm(rate, "true", "own", s) for rate in rates_of(study, arm) for s in study.seeds)
        if arm.role == "small":
            cells |= dict.fromkeys(of_arm(arm.rate, "true", "other", s) for s in study.seeds[: study.controls])
        if arm.role != "other":
            cells |= dict.fromkeys(of_arm(arm.rate, "shuffled", "own", s) for s in study.seeds[: study.controls])
    return list(cells)


def rates_of(study: FlatVsSharp, arm: Arm) -> list[float]:
    """The arm's own rate and, in the zoo, the others inside its grid."""
    how = study.beds[arm.model]
    in_zoo = arm.accounting == how.accountings[0] and arm.batch_size in how.zoo
    inside = how.rates[how.batch_sizes.index(arm.batch_size)][1:-1] if in_zoo else ()
    return sorted({arm.rate, *inside})
