"""Do PAC-Bayes bounds hold and say something, and is flatter tighter? Draws from a known population; see `population`.

Two parts: many training draws of one recipe whose posterior is trained for the bound, and a family of plainly trained
networks that differ in width, batch size and rate, compared at a common training loss.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure import pac_bayes
from nonconvex.measure.gibbs import gibbs_errors, gibbs_logits, rescaled
from nonconvex.models.stacked import Stacked, flatten, stack
from nonconvex.observations.pac_bayes import DrawnBound, RescaledBound
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.schedules import SCHEDULES
from nonconvex.studies import bound_family
from nonconvex.studies.population import Draws, answers, drawn, losses_and_errors, pooled
from nonconvex.studies.training import PLAIN, with_architecture
from nonconvex.study_settings.properties import PacBayes
from nonconvex.tensors import Params

MODELS = ("mlp",)
PARTS = 4  # jobs of each kind


def observe(settings: Settings) -> dict[str, list[Any]]:
    seeds = settings.properties.pac_bayes.seeds
    parts = [seeds[i::PARTS] for i in range(PARTS) if seeds[i::PARTS]]
    families = [partial(bound_family.members_of, settings, part) for part in parts]
    found = spread(settings, [partial(bounds, settings, part) for part in parts] + families)
    drawn_bounds, rescaled_bounds = zip(*found[: len(parts)], strict=True)
    by_seed = lambda rows: sorted(chain.from_iterable(rows), key=lambda row: row.seed)  # noqa: E731
    return {
        "draws": by_seed(drawn_bounds),
        "rescaled": by_seed(rescaled_bounds),
        "family": by_seed(found[len(parts) :]),
    }


def bounds(settings: Settings, seeds: Sequence[int]) -> tuple[list[DrawnBound], list[RescaledBound]]:
    """Every draw of some seeds: prior, posterior, bound and truth."""
    torch.set_num_threads(1)
    chosen = settings.properties.pac_bayes
    bed, x, y = pooled(bed_of(settings, "mlp"))
    bed = with_architecture(bed, widths=(chosen.width, chosen.width))
    keys = [(seed, draw) for seed in seeds for draw in range(chosen.draws)]
    data = drawn(x, y, keys, chosen.examples)
    prior, posterior, network = trained_for_the_bound(chosen, bed, data, [_number(*key) for key in keys])
    held = data.part(_prior_examples(chosen.prior_share, chosen.examples))
    quote = partial(least, chosen, generator=torch.Generator().manual_seed(seeds[0]))
    found = quote(held, posterior, prior)
    truth = _per_member(found["deviation"], x)
    true_error = gibbs_errors(posterior, x[None], y[None], truth, 1, torch.Generator().manual_seed(seeds[0] + 1))
    wrong = (answers(network, posterior, x) != y).double().mean(1)
    of_prior = losses_and_errors(network, prior, held, bed.loss)[1]
    holdout = pac_bayes.from_draws(of_prior.numpy(), held.y.shape[1], chosen.confidence)
    columns = {**found, "true_error": true_error.tolist(), "holdout": holdout, "network_error": wrong.tolist()}
    rows = [
        DrawnBound(*key, chosen.examples, grid_size=len(chosen.deviations), **{k: v[i] for k, v in columns.items()})
        for i, key in enumerate(keys)
    ]
    return rows, _rescaled(chosen, keys, network, prior, posterior, held, x, found["bound"], quote)


def _rescaled(
    chosen: PacBayes,
    keys: Sequence[tuple[int, int]],
    network: Stacked,
    prior: Params,
    posterior: Params,
    held: Draws,
    x: Tensor,
    before: Sequence[float],
    quote: Callable,
) -> list[RescaledBound]:
    """The first draws of every seed once more, with the posterior rescaled alone and together with its prior."""
    part = [i for i, (_, draw) in enumerate(keys) if draw < chosen.rescaled_draws]
    prior, posterior = ({name: value[part] for name, value in params.items()} for params in (prior, posterior))
    factors = [chosen.factor] * len(part)
    held, changed = Draws(held.x[part], held.y[part]), rescaled(posterior, factors)
    alone, along = (quote(held, changed, of)["bound"] for of in (prior, rescaled(prior, factors)))
    differ = (answers(network, changed, x) != answers(network, posterior, x)).double().mean(1).tolist()
    columns = zip(part, alone, along, differ, strict=True)
    return [RescaledBound(*keys[i], chosen.factor, before[i], *values) for i, *values in columns]


def trained_for_the_bound(
    chosen: PacBayes, bed: Bed, data: Draws, numbers: Sequence[int]
) -> tuple[Params, Params, Stacked]:
    """Prior means from the first part of every draw, posterior means from all of it, with weights drawn per example.

    The posterior descends E L(w + ε) + ‖w - w₀‖² / (2σ²n), a linear form of the bound with the loss in place of the
    error (Germain et al. 2009).
    """
    network, start = stack(bed.build, numbers, bed.device)
    first = _prior_examples(chosen.prior_share, chosen.examples)
    noise = torch.Generator().manual_seed(numbers[0])

    def noisy(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return bed.loss(gibbs_logits(params, x, chosen.noise, noise), y).mean(1)

    prior = fitted(chosen, bed, noisy, data.part(0, first), numbers, chosen.prior_steps, start)
    centre, examples = flatten(prior), chosen.examples - first

    def bounded(params: Params, x: Tensor, y: Tensor) -> Tensor:
        # E L + KL/n, KL = ‖w - w₀‖² / (2σ²)
        squared = (flatten(params) - centre).square().sum(1)
        return noisy(params, x, y) + squared / (2 * chosen.noise**2 * examples)

    return prior, fitted(chosen, bed, bounded, data, numbers, chosen.steps, prior), network


def fitted(
    chosen: PacBayes, bed: Bed, loss: Callable, data: Draws, numbers: Sequence[int], steps: int, params: Params
) -> Params:
    """The end of a training with a rate that falls to zero."""
    cohort = train.Cohort(
        loss=loss,
        batch=partial(data.batch, batch_size=min(chosen.batch_size, data.y.shape[1])),
        rates=train.rate_table([SCHEDULES["linear"]] * len(numbers), [chosen.rate] * len(numbers), steps, PLAIN),
        order=lambda step: numbers,
        optimizer=OPTIMIZERS[bed.training.optimizer.name](**bed.training.optimizer.options),
        strategy=PLAIN.bind(steps),
    )
    (end,) = deque(train.train(cohort, train.start(cohort, params)), maxlen=1)
    return end.params


def least(
    chosen: PacBayes, held: Draws, posterior: Params, prior: Params, generator: torch.Generator
) -> dict[str, Sequence[float]]:
    """The least bound of every member over the grid of deviations, and where it was found."""
    repeats, examples = chosen.repeats, held.y.shape[1]
    risks = [gibbs_errors(posterior, held.x, held.y, sigma, repeats, generator) for sigma in chosen.deviations]
    shares = torch.stack(risks, 1).numpy()
    squared = (flatten(posterior) - flatten(prior)).double().square().sum(1).numpy()
    grid = chosen.deviations, examples, repeats * examples, chosen.confidence, chosen.sampling
    every = pac_bayes.over_grid(shares, squared, *grid)
    at = every.argmin(1)
    member = range(len(at))
    sigma = [chosen.deviations[place] for place in at]
    divergence = pac_bayes.gaussian_kl(squared, sigma)
    budget = (chosen.confidence - chosen.sampling) / len(chosen.deviations)
    sampled = pac_bayes.from_draws(shares[member, at], repeats * examples, chosen.sampling / len(chosen.deviations))
    return {
        "deviation": sigma,
        "grid_place": at.tolist(),
        "gibbs_error": shares[member, at],
        "divergence": divergence,
        "bound": every[member, at],
        "pinsker": pac_bayes.mcallester(sampled, divergence, examples, budget),
    }


def _prior_examples(share: float, examples: int) -> int:
    return max(1, int(share * examples))


def _per_member(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype)


def _number(seed: int, draw: int) -> int:
    """A seed for initial weights and minibatches that no other draw shares."""
    return seed * 1000 + draw
