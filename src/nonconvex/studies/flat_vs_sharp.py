"""Batch sizes under three accountings, flatness of what they find, and whether flatness goes with test accuracy.

Rates are tuned on tuning seeds by validation error, for equal steps and for equal epochs. Then the reported seeds train
at the tuned rates; at the small batch's rate (equal epochs); at all rates inside the grid (the zoo that correlations
are taken over); a second time from other weights in another order (small batch); and on shuffled labels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.data.splits import draws
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.estimate import Estimate
from nonconvex.measure.matched import Crossing, first_crossings
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.rescaling import difference, noisy_errors, rescaled
from nonconvex.measure.selection import measures
from nonconvex.models.stacked import Params, Stacked, select
from nonconvex.observations.flat_vs_sharp import Arm, Endpoint, Rescaling, Sharpness, Trial
from nonconvex.studies.batch_arms import Cell, arms_of, reported_cells, steps_of, tuning_cells
from nonconvex.studies.training import Recipe, cohort, scores, trained, with_shuffled_labels

MODELS = ("mlp", "resnet")
SHORT = ("lambda_max", "gauss_newton_max")  # measured at equal epochs and where the loss meets a level
MEMBERS, FEW = 15, 4  # of a cohort at most; more than a few are split, so that two cores are busy
LAYERS = ("hidden.0", "hidden.1")  # of the MLP, with only ReLU between them
FACTORS = 11  # stream of the random rescalings
SCORES = ("train_loss", "train_error", "test_loss", "test_error", "clean_test_error", "noisy_test_error")


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: trials, arms, endpoints, sharpness, rescalings."""
    study = settings.properties.flat_vs_sharp
    cells = [cell for model in study.beds for cell in tuning_cells(study, model)]
    trials = in_order([row for part in in_cohorts(settings, tune, cells) for row in part])
    sizes = {model: len(bed_of(settings, model).data.train) for model in study.beds}
    arms = [arm for model, size in sizes.items() for arm in arms_of(study, model, trials, size)]
    parts = in_cohorts(settings, partial(run, arms=arms), reported_cells(study, arms))
    kinds = ("endpoints", "sharpness", "rescalings")
    found = {kind: in_order([row for part in parts for row in getattr(part, kind)]) for kind in kinds}
    return {"trials": trials, "arms": arms, **found}


def in_order(rows: list) -> list:
    """Sorted by their key, a blank first."""
    return sorted(rows, key=lambda row: [getattr(row, name) or 0 for name in row.KEY])


def in_cohorts(settings: Settings, job: Callable, cells: Iterable[Cell]) -> list:
    """`job(settings, recipe, members)` for cells that can train together, the longest cohorts first."""
    jobs = []
    for _, group in groupby(sorted(cells, key=lambda c: (c.group, c.draw, c.rate, c.seed)), key=lambda c: c.group):
        members = list(group)
        first = members[0]
        examples = len(bed_of(settings, first.model).data.train)
        how = settings.properties.flat_vs_sharp.beds[first.model]
        recipe = Recipe(steps_of(how, first.budget, first.batch_size, examples), first.batch_size)
        size = -(-len(members) // max(1 + (len(members) > FEW), -(-len(members) // MEMBERS)))
        parts = [members[i : i + size] for i in range(0, len(members), size)]
        jobs += [(recipe.steps * first.batch_size * len(part), partial(job, settings, recipe, part)) for part in parts]
    return spread(settings, [job for _, job in sorted(jobs, key=lambda pair: -pair[0])])


def tune(settings: Settings, recipe: Recipe, cells: Sequence[Cell]) -> list[Trial]:
    """Train a cohort of tuning runs and score it on validation data."""
    torch.set_num_threads(1)
    bed = bed_of(settings, cells[0].model)
    end = trained(bed, recipe, [cell.seed for cell in cells], [cell.rate for cell in cells])
    pairs = torch.stack(scores(bed, end.network, end.params, "validation", bed.training.validation_examples), 1)
    pairs[end.diverged.cpu() >= 0] = torch.nan
    return [
        Trial(c.model, c.budget, c.batch_size, c.rate, c.seed, *(None if x != x else x for x in pair))
        for c, pair in zip(cells, pairs.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Seen:
    """What a cohort of reported runs leaves."""

    endpoints: list[Endpoint]
    sharpness: list[Sharpness]
    rescalings: list[Rescaling]


def run(settings: Settings, recipe: Recipe, cells: Sequence[Cell], arms: Sequence[Arm]) -> Seen:
    """Train a cohort of reported runs, score where they ended, and measure how flat it is there and on the way."""
    torch.set_num_threads(1)
    first, study = cells[0], settings.properties.flat_vs_sharp
    how, bed = study.beds[first.model], bed_of(settings, first.model)
    bed = with_shuffled_labels(bed, 0) if first.labels == "shuffled" else bed
    network, params, made = cohort(bed, recipe, [cell.start for cell in cells], [cell.rate for cell in cells])
    at = Place(settings, bed, network, cells)
    batch = Objective(network, bed.loss, shared(*bed.data.train.examples(how.examples)))  # it normalises itself
    followed = first.followed(how)
    end, crossings = first_crossings(
        made, params, batch, how.levels if followed else (), max(1, recipe.steps // how.looks)
    )
    alive = [i for i, step in enumerate(end.diverged.tolist()) if step < 0]
    names = how.measures if followed else SHORT if first.labels == "true" else ()
    return Seen(
        at.endpoints(end.params, end.diverged.tolist(), recipe.steps),
        at.sharpness(end.params, dict.fromkeys(alive, end.step), names) + at.crossings(crossings),
        at.rescalings(end.params, alive, arms) if followed and how.zoo else [],
    )


@dataclass(frozen=True)
class Place:
    """A cohort's runs, to be scored and measured at any weights."""

    settings: Settings
    bed: Bed
    network: Stacked
    cells: Sequence[Cell]

    def endpoints(self, params: Params, diverged: list[int], steps: int) -> list[Endpoint]:
        """One row per run; a diverged one has only its step."""
        columns = self._scores(params)
        rows = []
        for i, (cell, step) in enumerate(zip(self.cells, diverged, strict=True)):
            kept = {name: column[i].item() for name, column in columns.items()} if step < 0 else {}
            values = dict.fromkeys(SCORES) | kept
            rows.append(Endpoint(**asdict(cell), steps=steps, diverged_step=step if step >= 0 else None, **values))
        return rows

    def _scores(self, params: Params) -> dict[str, Tensor]:
        bed, study, found = self.bed, self.settings.properties.flat_vs_sharp, {}
        for split in ("train", "test"):
            count = getattr(bed.training, f"{split}_examples")
            found |= zip(
                (f"{split}_loss", f"{split}_error"), scores(bed, self.network, params, split, count), strict=True
            )
        how = study.beds[bed.name]
        if self.cells[0].followed(how) and how.zoo:
            statistics = recomputed(self.network, params, bed.statistics_inputs())
            on = self.network, params, statistics, bed.data.test.examples(study.noise_examples), bed.loss
            found |= {
                "clean_test_error": evaluate(*on)[1],
                "noisy_test_error": noisy_errors(*on, study.noise, study.noise_pairs),
            }
        return found

    def sharpness(self, params: Params, steps: dict[int, int], names: Sequence[str], level=None) -> list[Sharpness]:
        """The named measures of the runs in `steps` (position: updates done) at `params`; other runs are left blank."""
        chosen, blank = list(steps), ("step", "loss", "value", "standard_error", "residual")
        rows = [
            Sharpness(**asdict(cell), level=level, quantity=name, **dict.fromkeys(blank))
            for i, cell in enumerate(self.cells)
            if i not in steps
            for name in names
        ]
        if chosen and names:
            params = select(params, chosen)
            objective = self._objective(params)
            losses, found = objective.losses(params).tolist(), measures(objective, params, names)
            for place, (i, step) in enumerate(steps.items()):
                where = asdict(self.cells[i]) | {"level": level, "step": step, "loss": losses[place]}
                rows += [Sharpness(**where, quantity=name, **_numbers(found[name], place)) for name in names]
        return rows

    def crossings(self, crossings: Sequence[Crossing]) -> list[Sharpness]:
        """Where the training loss first met each level."""
        steps = [{i: int(crossing.steps[i]) for i in crossing.reached} for crossing in crossings]
        parts = [self.sharpness(c.params, at, SHORT, c.level) for c, at in zip(crossings, steps, strict=True)]
        return [row for part in parts for row in part]

    def rescalings(self, params: Params, alive: Sequence[int], arms: Sequence[Arm]) -> list[Rescaling]:
        """Dinh's rescaling of the zoo: by the claim's factor in the small batch's arm, by a random one in all."""
        study = self.settings.properties.flat_vs_sharp
        how, cells = study.beds[self.bed.name], self.cells
        zoo = [i for i in alive if cells[i].draw == "own" and cells[i].batch_size in how.zoo]
        main = [arm for arm in arms if (arm.accounting, arm.role) == (how.accountings[0], "small")]
        small = {(arm.model, arm.batch_size, arm.rate) for arm in main}
        fixed = [i for i in zoo if (cells[i].model, cells[i].batch_size, cells[i].rate) in small]
        return [
            *self._rescaled(params, "fixed", {i: study.rescaling for i in fixed}),
            *self._rescaled(params, "random", {i: random_factor(cells[i], study.rescaling) for i in zoo}),
        ]

    def _rescaled(self, params: Params, kind: str, factors: dict[int, float]) -> list[Rescaling]:
        if not factors:
            return []
        params = select(params, list(factors))
        other = rescaled(params, *LAYERS, torch.tensor(list(factors.values()), device=self.bed.device))
        objective = self._objective(other)
        changes = difference(objective, params, other).tolist()
        found = measures(objective, other, ("lambda_max", "adaptive_sharpness"))
        sharp, adaptive = found["lambda_max"], found["adaptive_sharpness"].value.tolist()
        rows = []
        for place, (i, factor) in enumerate(factors.items()):
            cell, one = self.cells[i], _numbers(sharp, place)
            run = (cell.model, cell.batch_size, cell.rate, cell.seed)
            numbers = changes[place], one["value"], one["residual"], adaptive[place]
            rows.append(Rescaling(*run, kind, factor, *numbers))
        return rows

    def _objective(self, params: Params) -> Objective:
        """The mean training loss around `params`, with normalisation statistics recomputed there."""
        how = self.settings.properties.flat_vs_sharp.beds[self.bed.name]
        statistics = recomputed(self.network, params, self.bed.statistics_inputs())
        return Objective(self.network, self.bed.loss, shared(*self.bed.data.train.examples(how.examples)), statistics)


def random_factor(cell: Cell, largest: float) -> float:
    """Log-uniform between 1 / largest and largest, a function of seed, batch size and rate."""
    key = cell.batch_size << 32 | round(1e6 * cell.rate)
    # largest^(2u - 1), u = draw / 2^64
    return float(largest) ** (2 * float(draws(1, cell.seed, key, FACTORS)[0]) / 2**64 - 1)


def _numbers(estimate: Estimate, place: int) -> dict[str, float | None]:
    """Value, standard error, and residual relative to the value, of one member."""
    value = float(estimate.value[place])
    error = None if estimate.standard_error is None else float(estimate.standard_error[place])
    residual = None if estimate.residual is None or not value else float(estimate.residual[place]) / abs(value)
    return {"value": value, "standard_error": error, "residual": residual}
