"""Paths and surfaces of the default ResNet against loops that load every network with `load_state_dict`.

A Bezier curve: cohorts of pairs against one pair at a time, the same starts, places, batches and updates of the control
point. A surface of 51 x 51 points around a minimum: rows of stacked networks against one network at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.curved import ROOT
from benchmarks.plain import native
from benchmarks.turns import in_turn, seconds
from nonconvex import config
from nonconvex.beds import Bed, bed_of
from nonconvex.connection import read_endpoints
from nonconvex.measure.curves import middle, places, train_curve
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.surface import filter_direction
from nonconvex.measure.surface import surface as stacked_surface
from nonconvex.models.stacked import Params, Stacked
from nonconvex.paths import Results
from nonconvex.schedules import cosine

PAIRS = (1, 3)  # of the baseline arm, in a ring
RATE = 0.06
STEPS = 40  # of the curve's updates, which all cost the same
TICKS, REACH = 51, 1.0
EXAMPLES = 64  # behind every point of the surface
STACKED, LOADED = "stacked", "load_state_dict"


@dataclass(frozen=True)
class Timing:
    """`seconds` for `count` units (updates of a pair, points); `difference` is that of the results, relative."""

    job: str
    way: str
    members: int
    unit: str
    count: int
    turn: int
    seconds: float
    difference: float


@dataclass(frozen=True)
class Ends:
    """Trained networks to be joined, one member a pair."""

    bed: Bed
    a: Params
    b: Params
    seeds: list[int]

    def part(self, index: list[int]) -> "Ends":
        a, b = ({name: value[index] for name, value in side.items()} for side in (self.a, self.b))
        return Ends(self.bed, a, b, [self.seeds[i] for i in index])


def ends(device: str, root: Path = ROOT) -> Ends:
    """The committed endpoints of the baseline arm, each with the next."""
    settings = config.read(root / "params.yaml")
    settings = settings.model_copy(update={"compute": settings.compute.model_copy(update={"device": device})})
    bed = bed_of(settings, "resnet")
    runs = read_endpoints(settings, Results(root, "cpu"), "resnet")["none", "cosine"]
    found = [weights for (_, phase), weights in sorted(runs.items(), key=lambda item: item[0]) if phase == "reported"]
    names = [name for name, _ in bed.build().named_parameters()]
    a = {name: torch.stack([one[name].float() for one in found]).to(device) for name in names}
    return Ends(bed, a, {name: value.roll(-1, 0) for name, value in a.items()}, list(range(len(found))))


def measure(device: str, turns: int, say: Callable[[str], None]) -> list[Timing]:
    joined, timings = ends(device), []
    for members in PAIRS:
        say(f"curves of {members} pairs")
        chosen = joined.part(list(range(members)))
        ways = {STACKED: partial(curve, chosen, STEPS), LOADED: partial(loaded_curves, chosen, STEPS)}
        timings += timed("curve", ways, members, "updates", members * STEPS, turns, device)
    say(f"surface of {TICKS} x {TICKS}")
    field = around(joined.part([0]))
    ways = {STACKED: partial(surface, field), LOADED: partial(loaded_surface, field)}
    return timings + timed("surface", ways, TICKS, "points", TICKS**2, turns, device)


def timed(job: str, ways: dict, members: int, unit: str, count: int, turns: int, device: str) -> list[Timing]:
    """Both ways in turn, their results compared beforehand on a first call that is not timed."""
    expected, found = (way() for way in ways.values())
    off = float(((found - expected).abs() / expected.abs().amax()).max())
    clocked = {name: partial(seconds, way, device) for name, way in ways.items()}
    return [Timing(job, name, members, unit, count, turn, took, off) for turn, name, took in in_turn(clocked, turns)]


# Curves


def curve(chosen: Ends, steps: int) -> Tensor:
    """(E,): the loss in the middle of each trained curve, on one batch."""
    bed, network = chosen.bed, Stacked(chosen.bed.build().to(chosen.bed.device))

    def losses(params: Params, step: int) -> Tensor:
        x, y = bed.data.train.batch(chosen.seeds, step, bed.training.batch_size)
        return bed.loss(network(params, x), y).mean(1)

    path = train_curve(losses, chosen.a, chosen.b, chosen.seeds, steps, RATE)
    return losses(path(torch.full((len(chosen.seeds),), 0.5, dtype=torch.float64)), steps).detach()


def loaded_curves(chosen: Ends, steps: int) -> Tensor:
    """The same, one pair after the other."""
    return torch.stack([loaded_curve(chosen.part([i]), steps) for i in range(len(chosen.seeds))])


def loaded_curve(pair: Ends, steps: int) -> Tensor:
    """One model that is loaded with the network at t, whose gradient times 2 t (1 - t) is the control point's."""
    bed, model = pair.bed, native(pair.bed.build()).train().to(pair.bed.device)
    a, b = ({name: value[0] for name, value in side.items()} for side in (pair.a, pair.b))
    control = {name: value[0].clone().requires_grad_() for name, value in middle(pair.a, pair.b).items()}
    optimizer = torch.optim.AdamW(control.values(), betas=(0.8, 0.95), weight_decay=0.0, fused=True)
    schedule = cosine(steps)
    for step in range(steps):
        t = float(places(pair.seeds, step)[0])
        optimizer.param_groups[0]["lr"] = RATE * schedule(step)
        load(model, a, control, b, t)
        batch_loss(bed, model, pair.seeds, step).backward()
        for name, parameter in model.named_parameters():
            control[name].grad, parameter.grad = parameter.grad.mul_(2 * t * (1 - t)), None
        optimizer.step()
    load(model, a, control, b, 0.5)
    return batch_loss(bed, model, pair.seeds, steps).detach()


@torch.no_grad()
def load(model: torch.nn.Module, a: Params, control: Params, b: Params, t: float) -> None:
    at = {name: (1 - t) ** 2 * a[name] + 2 * t * (1 - t) * control[name] + t**2 * b[name] for name in a}
    model.load_state_dict(at, strict=False)  # batch norm's running averages are no part of the curve


def batch_loss(bed: Bed, model: torch.nn.Module, seeds: list[int], step: int) -> Tensor:
    x, y = bed.data.train.batch(seeds, step, bed.training.batch_size)
    return F.cross_entropy(model(x[0]), y[0])


# Surfaces


@dataclass(frozen=True)
class Field:
    """A minimum, two filter-normalised directions, and the examples that the loss is taken over."""

    bed: Bed
    centre: Params
    first: Params
    second: Params
    ticks: Tensor

    @property
    def examples(self) -> tuple[Tensor, Tensor]:
        return self.bed.data.train.examples(EXAMPLES)


def around(chosen: Ends) -> Field:
    directions = (filter_direction(chosen.a, [seed]) for seed in (1, 2))
    return Field(chosen.bed, chosen.a, *directions, torch.linspace(-REACH, REACH, TICKS))


def surface(field: Field) -> Tensor:
    """(51, 51) losses, batch norm using the statistics of the examples."""
    objective = Objective(Stacked(field.bed.build().to(field.bed.device)), field.bed.loss, shared(*field.examples))
    return stacked_surface(objective, field.centre, field.first, field.second, field.ticks)[0]


@torch.no_grad()
def loaded_surface(field: Field) -> Tensor:
    """The same, a network at a time."""
    model, (x, y) = native(field.bed.build()).train().to(field.bed.device), field.examples
    centre, first, second = ({n: v[0] for n, v in part.items()} for part in (field.centre, field.first, field.second))
    losses = x.new_empty(TICKS, TICKS)
    for i, a in enumerate(field.ticks.tolist()):
        for j, b in enumerate(field.ticks.tolist()):
            at = {name: value + a * first[name] + b * second[name] for name, value in centre.items()}
            model.load_state_dict(at, strict=False)
            losses[i, j] = F.cross_entropy(model(x), y)
    return losses
