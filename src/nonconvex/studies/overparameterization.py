"""Are networks with more parameters easier to train? One job per architecture and way of descent.

A job tunes the rate of its arms, clean and random labels side by side in one cohort, and then lets the reported seeds
descend until they fit. What is measured is measured at the first weights that fit: at equal training loss.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from nonconvex.beds import bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, shared
from nonconvex.losses import errors
from nonconvex.measure.ntk import relative_change, spectrum, tangent_kernel
from nonconvex.models.stacked import Params, flatten, select
from nonconvex.observations import overparameterization as rows
from nonconvex.studies.fit_arms import Arms, number
from nonconvex.studies.fitting import Finish, Member, Race, all_home, run
from nonconvex.study_settings.overparameterization import Overparameterization

MODELS = ("mlp",)
FILES = ("trials", "tuned", "runs", "grams", "pairs")


def observe(settings: Settings) -> dict[str, list]:
    """The records of every job, by file name."""
    parts = spread(
        settings, [partial(observe_job, settings, *job) for job in jobs(settings.factors.overparameterization)]
    )
    return {name: [row for part in parts for row in part[name]] for name in FILES}


def jobs(s: Overparameterization) -> list[tuple[str, int, str]]:
    """(shape, width, method), the costliest first: narrow networks take all the steps allowed, wide ones large ones."""
    square = [("square", width, "full_batch") for width in s.gradient_descent.widths]
    both_ends = sorted(square, key=lambda job: min(square.index(job), len(square) - 1 - square.index(job)))
    bottleneck = [("bottleneck", s.bottleneck.width, "full_batch")]
    return [*both_ends, *bottleneck, *(("square", width, "minibatch") for width in s.minibatches.widths)]


def observe_job(settings: Settings, shape: str, width: int, method: str) -> dict[str, list]:
    """Tune, descend, measure."""
    torch.set_num_threads(1)
    arms = Arms(settings.factors.overparameterization, bed_of(settings, "mlp"), shape, width, method)
    trials = arms.trials()
    tuned = {labels: arms.chosen([t for t in trials if t.labels == labels]) for labels in arms.labels}
    runs = reported(arms, {labels: arm.rate for labels, arm in tuned.items()})
    found = {name: [] for name in FILES} | {"trials": trials, "tuned": list(tuned.values()), "runs": runs.records()}
    if arms.main:
        found |= {"grams": runs.grams(), "pairs": runs.pairs()}
    return found


def reported(arms: Arms, rates: dict[str, float]) -> "Runs":
    """The reported seeds, and the twins of the widest network, at their labels' rates."""
    offsets = (0, arms.s.twin) if arms.twins else (0,)
    kinds = itertools.product(rates.items(), offsets, arms.s.seeds)
    members = [Member(seed, seed + offset, labels, rate) for (labels, rate), offset, seed in kinds]
    found = arms.race(members)
    return Runs(arms, members, found, run(found, [arms.s.level, arms.s.easy], all_home))


@dataclass(frozen=True)
class Runs:
    """An architecture's reported runs where each first fitted, or where it was when the race ended."""

    arms: Arms
    members: list[Member]
    race: Race
    finish: Finish

    @cached_property
    def places(self) -> Params:
        return self.finish.places()

    @property
    def fitted(self) -> list[bool]:
        return (self.finish.crossings[0].steps >= 0).tolist()

    def records(self) -> list[rows.FitRun]:
        network, examples, places = self.race.network, self.race.examples, self.places
        bed, start = self.arms.bed, flatten(self.race.params)
        with torch.no_grad():
            logits = network(places, examples.x)
        _, test = evaluate(network, places, {}, bed.data.test.examples(self.arms.s.test_examples), bed.loss)
        columns = {
            "diverged_step": [number(step) for step in self.finish.state.diverged.tolist()],
            "steps": [number(step) for step in self.finish.crossings[0].steps.tolist()],
            "easy_steps": [number(step) for step in self.finish.crossings[1].steps.tolist()],
            "train_loss": bed.loss(logits, examples.y).mean(1).tolist(),
            "train_error": errors(logits, examples.y).mean(1).tolist(),
            "test_error": test.tolist(),
            "initial_norm": start.norm(dim=1).tolist(),
            "distance": (flatten(places) - start).norm(dim=1).tolist(),
            "kernel_change": self.kernel_changes(),
        }
        return [
            self._record(member, dict(zip(columns, values, strict=True)))
            for member, *values in zip(self.members, *columns.values(), strict=True)
        ]

    def _record(self, member: Member, numbers: dict) -> rows.FitRun:
        if numbers["diverged_step"] is not None and numbers["steps"] is None:
            numbers |= dict.fromkeys(("train_loss", "train_error", "test_error", "distance"))
        return rows.FitRun(
            shape=self.arms.shape,
            width=self.arms.width,
            first_width=self.arms.widths[0],
            parameters=self.arms.parameters,
            examples=self.arms.s.examples,
            classes=self.arms.ends[1],
            labels=member.labels,
            method=self.arms.method,
            start="own" if member.start == member.seed else "twin",
            seed=member.seed,
            rate=member.rate,
            allowed=self.arms.how.steps,
            **numbers,
        )

    def kernel_changes(self) -> list[float | None]:
        """Relative change of the tangent kernel of every own run of gradient descent that fitted."""
        if not self.arms.main:
            return [None] * len(self.members)
        # clean and random labels share inputs and initial weights, and so the kernel that they start with
        before = {
            member.seed: self._kernel(self.race.params, e) for e, member in enumerate(self.members) if own(member)
        }
        return [
            relative_change(before[member.seed], self._kernel(self.places, e)).item()
            if own(member) and fitted
            else None
            for e, (member, fitted) in enumerate(zip(self.members, self.fitted, strict=True))
        ]

    def _kernel(self, params: Params, e: int) -> torch.Tensor:
        x = self.race.examples.x[[e], : self.arms.s.kernel_examples]
        return tangent_kernel(self.race.network, select(params, [e]), x)

    def grams(self) -> list[rows.Gram]:
        """The spectrum of the kernel of the first logit on all examples of a replicate, in double precision."""
        found = []
        for e, member in enumerate(self.members):
            if own(member) and member.labels == "clean":
                params = {name: value[[e]].double() for name, value in self.race.params.items()}
                kernel = tangent_kernel(self.race.network, params, self.race.examples.x[[e]].double(), [0])
                values = spectrum(kernel)[0]
                ends = (values[0].item(), values.mean().item(), values[-1].item())
                found.append(rows.Gram(self.arms.width, self.arms.parameters, len(values), member.seed, *ends))
        return found

    def pairs(self) -> list[rows.Pair]:
        """Every own run that has a twin, and the twin."""
        place = {(member.labels, member.seed, own(member)): e for e, member in enumerate(self.members)}
        twins = [(labels, seed) for labels, seed, is_own in place if not is_own]
        return [
            rows.Pair(self.arms.width, *kind, *self._compared(place[*kind, True], place[*kind, False]))
            for kind in twins
        ]

    def _compared(self, a: int, b: int) -> tuple[float | None, ...]:
        """(distance where they fitted, distance at the start, disagreement) of two members."""
        if not (self.fitted[a] and self.fitted[b]):
            return None, None, None
        start, end = (flatten(select(params, [a, b])) for params in (self.race.params, self.places))
        unit = (end - start).norm(dim=1).mean()
        x, _ = self.arms.bed.data.test.examples(self.arms.s.test_examples)
        with torch.no_grad():
            one, other = self.race.network(select(self.places, [a, b]), shared(x, 2)).argmax(-1)
        apart = [((point[0] - point[1]).norm() / unit).item() for point in (end, start)]
        return *apart, (one != other).float().mean().item()


def own(member: Member) -> bool:
    """Whether the run is no twin."""
    return member.start == member.seed
