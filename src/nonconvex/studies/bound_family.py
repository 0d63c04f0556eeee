"""A family of networks that differ in width, batch size and rate, at a common training loss: flatness, bound, truth."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.measure import pac_bayes
from nonconvex.measure.gibbs import gibbs_errors, rescaled
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues, trace
from nonconvex.models.stacked import Stacked, flatten, select, stack
from nonconvex.observations.pac_bayes import FamilyMember
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.schedules import SCHEDULES
from nonconvex.strategies.base import Strategy
from nonconvex.studies.population import Draws, answers, drawn, losses_and_errors, pooled
from nonconvex.studies.training import with_architecture
from nonconvex.study_settings.properties import PacBayes
from nonconvex.tensors import Params

PLAIN = Strategy()
NUMBER = 500  # of the draw that a seed's family is trained on, beyond those of the other part
FACTORS = 7  # stream of the random rescales
MEASURED = [field.name for field in fields(FamilyMember)][FamilyMember.__match_args__.index("factor") + 1 :]


@dataclass(frozen=True)
class Cohort:
    """Members that share width, batch size and labels: their data, priors, and weights at the common training loss."""

    bed: Bed
    network: Stacked
    data: Draws
    held: Draws  # the part that the priors have not seen
    initial: Params
    prior: Params
    end: Params
    steps: Tensor  # (E,) updates after the prior, -1 for a member that did not reach the loss


def members_of(settings: Settings, seeds: Sequence[int]) -> list[FamilyMember]:
    """The family of every seed, with true and with shuffled labels, as trained and rescaled."""
    torch.set_num_threads(1)
    chosen = settings.properties.pac_bayes
    bed, x, y = pooled(bed_of(settings, "mlp"))
    rows = []
    for labels, examples in (("true", chosen.family_examples), ("shuffled", chosen.shuffled_examples)):
        data = drawn(x, y, [(seed, NUMBER) for seed in seeds], examples, labels == "shuffled")
        for width in chosen.family_widths:
            for batch_size in chosen.family_batches:
                cohort = trained(chosen, with_architecture(bed, widths=(width, width)), data, seeds, batch_size)
                keys = [(seed, width, batch_size, rate) for rate in chosen.family_rates for seed in seeds]
                rows += described(chosen, cohort, labels, keys, x, y)
    return rows


def trained(chosen: PacBayes, bed: Bed, data: Draws, seeds: Sequence[int], batch_size: int) -> Cohort:
    """A prior and a posterior for every rate and seed, the rates in turn."""
    rates = [rate for rate in chosen.family_rates for _ in seeds]
    numbers = [seed for _ in chosen.family_rates for seed in seeds]
    data = Draws(*(part.repeat(len(chosen.family_rates), *[1] * (part.dim() - 1)) for part in (data.x, data.y)))
    first = max(1, int(chosen.prior_share * data.y.shape[1]))
    network, initial = stack(bed.build, numbers, bed.device)

    def states(part: Draws, steps: int, params: Params):
        cohort = train.Cohort(
            loss=lambda params, x, y: bed.loss(network(params, x), y).mean(1),
            batch=partial(part.batch, batch_size=min(batch_size, part.y.shape[1])),
            rates=train.rate_table([SCHEDULES["constant"]] * len(rates), rates, steps, PLAIN),
            order=lambda step: numbers,
            optimizer=OPTIMIZERS[bed.training.optimizer.name](**bed.training.optimizer.options),
            strategy=PLAIN.bind(steps),
        )
        return train.train(cohort, train.start(cohort, params))

    for state in states(data.part(0, first), chosen.family_prior_steps, initial):
        prior = state.params
    end, steps = prior, torch.full((len(rates),), -1)
    for state in states(data, chosen.family_steps, prior):
        if state.step % chosen.family_check == 0:
            losses, _ = losses_and_errors(network, state.params, data, bed.loss)
            reached = (steps < 0) & (losses <= chosen.family_loss)
            end = {name: _where(reached, value, end[name]) for name, value in state.params.items()}
            steps = torch.where(reached, state.step, steps)
            if bool((steps >= 0).all()):
                break
    return Cohort(bed, network, data, data.part(first), initial, prior, end, steps)


def described(
    chosen: PacBayes, cohort: Cohort, labels: str, keys: Sequence[tuple], x: Tensor, y: Tensor
) -> list[FamilyMember]:
    """Two records per member, as trained and rescaled; one that did not reach the common loss has keys only."""
    kept = (cohort.steps >= 0).nonzero()[:, 0].tolist()
    factors = [random_factor(chosen, key) for key in keys]
    rows = []
    for form, scales in (("trained", [1.0] * len(keys)), ("rescaled", factors)):
        values = measured(chosen, cohort, kept, [scales[i] for i in kept], x, y) if kept else {}
        for i, key in enumerate(keys):
            at = kept.index(i) if i in kept else None
            found = {name: None if at is None else values[name][at] for name in MEASURED}
            steps = None if at is None else cohort.steps[i].item()
            rows.append(FamilyMember(labels, form, *key, steps, scales[i], **found))
    return rows


def random_factor(chosen: PacBayes, key: tuple) -> float:
    """Log-uniform in the range of the settings, fixed by the member's name alone."""
    seed, *rest = key
    words = np.random.SeedSequence([FACTORS, seed, *(round(1000 * part) for part in rest)])
    low, high = np.log(chosen.family_factors)
    return float(np.exp(np.random.Generator(np.random.Philox(words)).uniform(low, high)))


def measured(
    chosen: PacBayes, cohort: Cohort, kept: Sequence[int], factors: Sequence[float], x: Tensor, y: Tensor
) -> dict[str, list]:
    """The columns of the members `kept`, their weights rescaled by `factors`, priors and initial weights as before."""
    initial, prior, end = (select(params, kept) for params in (cohort.initial, cohort.prior, cohort.end))
    end, network, loss = rescaled(end, factors), cohort.network, cohort.bed.loss
    data, held = (Draws(part.x[kept], part.y[kept]) for part in (cohort.data, cohort.held))
    train_loss, train_error = losses_and_errors(network, end, data, loss)
    true_error = (answers(network, end, x) != y).double().mean(1)
    columns = {"train_loss": train_loss, "train_error": train_error, "true_error": true_error}
    columns |= curvature(chosen, network, end, data, loss)
    columns["squared_distance"] = _squared(end, prior)
    noise = torch.Generator().manual_seed(len(kept))
    shares = torch.stack([gibbs_errors(end, held.x, held.y, s, 1, noise) for s in chosen.family_deviations], 1)
    level = losses_and_errors(network, end, held, loss)[1] + chosen.tolerance
    sigma, place = tolerated(shares, chosen.family_deviations, level)
    member = torch.arange(len(kept))
    columns |= {"tolerated": sigma, "gibbs_error": shares[member, place]}
    for name, distance in (("", columns["squared_distance"]), ("initial_", _squared(end, initial))):
        size = held.y.shape[1]
        grid = chosen.family_deviations, size, size, chosen.confidence, chosen.sampling
        every = torch.from_numpy(pac_bayes.over_grid(shares.numpy(), distance.numpy(), *grid))
        if name:
            columns["initial_bound"] = every.amin(1)
        else:
            columns |= {"bound": every[member, place], "least_bound": every.amin(1), "least_place": every.argmin(1)}
            sigma = torch.tensor(chosen.family_deviations, dtype=torch.float64)[place]
            columns["divergence"] = torch.from_numpy(pac_bayes.gaussian_kl(distance.numpy(), sigma.numpy()))
    return {name: values.tolist() for name, values in columns.items()}


def tolerated(shares: Tensor, deviations: Sequence[float], level: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) the deviation at which errors `shares` (E, G) first exceed `level` (E,), between grid points by ln σ.

    With it the place of the last grid point before (the first one where even that exceeds). A member that tolerates
    the whole grid gets its end, one that tolerates nothing its start.
    """
    grid = torch.tensor(deviations, dtype=torch.float64).log()
    above = shares > level[:, None]
    after = torch.where(above.any(1), above.int().argmax(1), len(grid) - 1).clamp(min=1)
    before, member = after - 1, torch.arange(len(shares))
    low, high = shares[member, before], shares[member, after]
    share = ((level - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    whole = ~above.any(1)
    share, place = torch.where(whole, 1.0, share), torch.where(whole, after, before)
    return (grid[before] + share * (grid[after] - grid[before])).exp(), place


def curvature(chosen: PacBayes, network: Stacked, params: Params, data: Draws, loss) -> dict[str, Tensor]:
    """λ_max with its relative residual, and the trace, of the training loss on the first examples of every draw."""
    operator = Hessian(Objective(network, loss, [data.examples(chosen.curvature_examples)]), params)
    ends = extreme_eigenvalues(operator, chosen.lanczos_iterations, ends="largest")
    top, total = ends.largest, trace(operator, chosen.probes, known=ends)
    return {"lambda_max": top.value, "residual": (top.residual / top.value.abs()), "trace": total.value}


def _squared(a: Params, b: Params) -> Tensor:
    return (flatten(a) - flatten(b)).double().square().sum(1)


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (new.dim() - 1)), new, old)
