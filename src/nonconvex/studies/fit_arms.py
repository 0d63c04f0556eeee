"""The arms of the study of overparameterization: an architecture, a way of descent, and the rate it is given."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from nonconvex.beds import Bed
from nonconvex.observations.overparameterization import FitTrial
from nonconvex.observations.tuning import TunedArm
from nonconvex.studies.fitting import Member, Race, patiently, race, run
from nonconvex.studies.training import with_architecture
from nonconvex.study_settings.overparameterization import Descent, Overparameterization


@dataclass(frozen=True)
class Arms:
    """The arms of one architecture and one way of descent: they differ in their labels."""

    s: Overparameterization
    plain: Bed
    shape: str
    width: int
    method: str

    @property
    def how(self) -> Descent:
        return self.s.gradient_descent if self.method == "full_batch" else self.s.minibatches

    @cached_property
    def bed(self) -> Bed:
        return with_architecture(self.plain, widths=self.widths, skip=False)

    @property
    def widths(self) -> tuple[int, int]:
        """Units of the two hidden layers."""
        if self.shape == "square":
            return self.width, self.width
        inputs, classes, like = *self.ends, self.s.bottleneck.like
        fixed, per_unit = parameters([0, self.width, classes]), inputs + 1 + self.width
        # P = fixed + W (inputs + 1 + width)
        return round((parameters([inputs, like, like, classes]) - fixed) / per_unit), self.width

    @property
    def ends(self) -> tuple[int, int]:
        """Numbers of inputs and of classes."""
        return self.plain.data.train.x.shape[1], self.plain.data.classes

    @property
    def parameters(self) -> int:
        inputs, classes = self.ends
        return parameters([inputs, *self.widths, classes])

    @property
    def main(self) -> bool:
        """Whether these are the arms that are measured in full: hidden layers of equal width, full batches."""
        return (self.shape, self.method) == ("square", "full_batch")

    @property
    def labels(self) -> tuple[str, ...]:
        return ("clean", "random") if self.main else ("clean",)

    @property
    def twins(self) -> bool:
        return self.main and self.width == self.how.widths[-1]

    def name(self, labels: str) -> str:
        return f"{self.shape}_{self.width}_{labels}_{self.method}"

    def race(self, members: Sequence[Member]) -> Race:
        return race(self.bed, members, self.s.examples, self.how.steps, self.how.batch_size)

    def trials(self) -> list[FitTrial]:
        """Every tuning seed at every rate, until the fastest rate of each kind of labels has won clearly."""
        teams = list(itertools.product(self.labels, self.how.rates))
        members = [Member(seed, seed, labels, rate) for labels, rate in teams for seed in self.s.tuning]
        groups = cut(cut(range(len(members)), len(self.s.tuning)), len(self.how.rates))
        end = run(self.race(members), [self.s.level], patiently(groups, self.s.patience))
        columns = zip(
            members, end.state.diverged.tolist(), end.crossings[0].steps.tolist(), end.losses.tolist(), strict=True
        )
        return [self._trial(member, end.steps, *values) for member, *values in columns]

    def _trial(self, member: Member, stopped: int, diverged: int, steps: int, loss: float) -> FitTrial:
        return FitTrial(
            arm=self.name(member.labels),
            shape=self.shape,
            width=self.width,
            labels=member.labels,
            method=self.method,
            seed=member.seed,
            rate=member.rate,
            stopped=stopped,
            diverged_step=number(diverged),
            steps=number(steps),
            train_loss=None if diverged >= 0 else loss,
        )

    def chosen(self, trials: Sequence[FitTrial]) -> TunedArm:
        """`back` steps of the grid below the rate at which the last of the tuning seeds fits first.

        At that rate itself another seed may fly off and never come back. Where no rate fits every tuning seed, it is
        the rate that leaves the fewest of them out, and then that of the least loss. Inside the grid are both.
        """
        rates = sorted({trial.rate for trial in trials})
        slow = {rate: slowness([trial for trial in trials if trial.rate == rate]) for rate in rates}
        fastest = min(range(len(rates)), key=lambda i: (slow[rates[i]], i))
        place = fastest if slow[rates[fastest]][0] else max(fastest - self.s.back, 0)
        interior = int(place > 0 and fastest < len(rates) - 1)
        return TunedArm("mlp", trials[0].arm, "steps of the slowest tuning seed", rates[place], interior, len(trials))


def slowness(trials: Sequence[FitTrial]) -> tuple[float, ...]:
    """What the tuning of one rate is ordered by: seeds that did not fit, steps of the slowest, mean loss at the end."""
    unfitted = sum(trial.steps is None for trial in trials)
    losses = [torch.inf if trial.train_loss is None else trial.train_loss for trial in trials]
    slowest = max((trial.steps for trial in trials if trial.steps is not None), default=0)
    return unfitted, 0 if unfitted else slowest, sum(losses) / len(losses)


def cut(things: Sequence, size: int) -> list[Sequence]:
    """`things` in stretches of `size`."""
    return [things[i : i + size] for i in range(0, len(things), size)]


def parameters(sizes: Sequence[int]) -> int:
    """Weights and biases of fully connected layers between layers of these sizes."""
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def number(step: int) -> int | None:
    """A step, or None for the -1 that means never."""
    return step if step >= 0 else None
