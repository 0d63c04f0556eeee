"""What is read off a cohort of the study of restarts once it is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.losses import errors
from nonconvex.measure.averaging import mixture
from nonconvex.measure.barriers import Profile, over_line, over_worse_end, profile
from nonconvex.measure.curves import linear
from nonconvex.measure.predictions import disagreement, log_probabilities
from nonconvex.models.stacked import Params, Stacked, flatten, select
from nonconvex.observations.restarts import CycledRun, CycleLine, CycleLinePoint, CycleLook
from nonconvex.studies.draws import Drawn
from nonconvex.studies.training import scores
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.restarts import CycledBed

DIGITS, FEWER = 6, 4  # significant ones of a record, and of a place of a line


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    arm: str
    height: float
    labels: str
    draw: str
    seed: int
    rate: float

    @property
    def name(self) -> tuple[str, float, str, int]:
        return self.arm, self.height, self.draw, self.seed


@dataclass(frozen=True)
class Stretch:
    """A line to be measured: from member `a` after `begin` updates to member `b` after `end`."""

    name: tuple[str, float, str, int]
    line: int
    a: int
    begin: int
    b: int
    end: int


@dataclass(frozen=True)
class Readings:
    """A trained cohort: member i is `cells[i]`, whose cycles end at `ends[i]`; `states` by number of updates.

    `rates` (steps, E) are those of every update.
    """

    bed: Bed
    how: CycledBed
    points: int
    network: Stacked
    cells: Sequence[Cell]
    ends: Sequence[Sequence[int]]
    states: Mapping[int, train.State]
    rates: Tensor

    @property
    def steps(self) -> int:
        return len(self.rates)

    @cached_property
    def diverged(self) -> list[int]:
        """The step at which each member was frozen, -1 for none."""
        return self.states[self.steps].diverged.tolist()

    def at(self, members: Sequence[int], steps: Sequence[int]) -> Params:
        """The weights of `members`, each after its own number of updates."""
        parts = [select(self.states[step].params, [i]) for i, step in zip(members, steps, strict=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def predicted(self) -> list[Tensor]:
        """ln p (E, N, ..., classes) of test examples at the members' first, second, ... ends of cycles."""
        everyone, inputs, (x, _) = range(len(self.cells)), self.bed.statistics_inputs(), self.tested
        places = zip(*self.ends, strict=True)
        return [log_probabilities(self.network, self.at(everyone, steps), inputs, x) for steps in places]

    @property
    def tested(self) -> tuple[Tensor, Tensor]:
        return self.bed.data.test.examples(self.how.test_examples)

    # The ends of runs

    def runs(self) -> list[CycledRun]:
        """One row per member; a diverged one has only its step."""
        final = self.states[self.steps].params
        columns = [
            *scores(self.bed, self.network, final, "train", self.how.train_examples),
            *self.scored(self.predicted[-1]),
            *self.scored(mixture(self.predicted)),
        ]
        rows = []
        for i, (cell, step) in enumerate(zip(self.cells, self.diverged, strict=True)):
            values = [rounded(column[i], DIGITS) if step < 0 else None for column in columns]
            key = (self.bed.name, cell.arm, cell.height, cell.labels, cell.draw, cell.seed, cell.rate, self.steps)
            rows.append(CycledRun(*key, step if step >= 0 else None, *values))
        return rows

    def scored(self, logits: Tensor) -> list[Tensor]:
        """Mean loss and error (E,) on test examples of ln p (E, N, ..., classes)."""
        y = self.tested[1].expand(len(logits), *self.tested[1].shape)
        return [measure(logits, y).double().mean(1) for measure in (self.bed.loss, errors)]

    # Lines between ends of cycles

    def lines(self) -> tuple[list[CycleLine], list[CycleLinePoint]]:
        """Every line between consecutive ends of a run, and between the ends of the single cosine's two draws."""
        stretches = self.stretches()
        a = self.at([s.a for s in stretches], [s.begin for s in stretches])
        b = self.at([s.b for s in stretches], [s.end for s in stretches])
        train = self.bed.data.train.examples(self.how.line_examples)
        test = self.bed.data.test.examples(self.how.line_test_examples)
        along = profile(self.network, self.bed.loss, linear(a, b), train, test, self.points)
        distance = (flatten(b) - flatten(a)).norm(dim=1) / flatten(a).norm(dim=1)
        rows, points = [], []
        for e, stretch in enumerate(stretches):
            sound = self.diverged[stretch.a] < 0 and self.diverged[stretch.b] < 0
            rows.append(self._line(stretch, e, along, float(distance[e]), sound))
            points += self._points(stretch, e, along) if sound else []
        return rows, points

    def stretches(self) -> list[Stretch]:
        found = []
        for i, (cell, ends) in enumerate(zip(self.cells, self.ends, strict=True)):
            pairs = enumerate(pairwise(ends), 1)
            found += [Stretch(cell.name, line, i, begin, i, end) for line, (begin, end) in pairs]
        twins = {cell.seed: i for i, cell in enumerate(self.cells) if (cell.arm, cell.draw) == ("cosine", "other")}
        for i, cell in enumerate(self.cells):
            if (cell.arm, cell.draw) == ("cosine", "own") and cell.seed in twins:
                name = ("independent", 1.0, "own", cell.seed)
                found.append(Stretch(name, 1, i, self.steps, twins[cell.seed], self.steps))
        return found

    def _line(self, stretch: Stretch, e: int, along: Profile, distance: float, sound: bool) -> CycleLine:
        key = (self.bed.name, *stretch.name, stretch.line, stretch.begin, stretch.end)
        if not sound:
            return CycleLine(*key, *[None] * 8)
        loss, t = along.train_loss[e : e + 1], along.t
        heights = [over_line(loss, t), over_worse_end(loss, t)]
        heights += [over_line(values[e : e + 1], t) for values in (along.train_error, along.test_loss)]
        values = [loss[0, 0], loss[0, -1], *(height[0] for height in heights), self.differing(stretch), distance]
        return CycleLine(*key, *(rounded(value, DIGITS) for value in values))

    def differing(self, stretch: Stretch) -> float:
        """Share of test predictions that differ between the ends of a stretch."""
        first, second = (
            self.predicted[self.ends[i].index(step)][i : i + 1]
            for i, step in ((stretch.a, stretch.begin), (stretch.b, stretch.end))
        )
        return float(disagreement(first, second))

    def _points(self, stretch: Stretch, e: int, along: Profile) -> list[CycleLinePoint]:
        key = (self.bed.name, *stretch.name, stretch.line)
        columns = (along.t.tolist(), along.train_loss[e].tolist(), along.train_error[e].tolist())
        return [
            CycleLinePoint(*key, t, *(rounded(value, FEWER) for value in values))
            for t, *values in zip(*columns, strict=True)
        ]

    # On the way

    def looks(self) -> list[CycleLook]:
        """Test scores of every arm's first draw on the way; restarts at other heights are left out."""
        shown = [i for i, cell in enumerate(self.cells) if cell.draw == "own" and cell.height == 1]
        inputs = self.bed.data.train.examples(self.how.looked)[0]
        examples, rows = self.bed.data.test.examples(self.how.looked), []
        for step, state in self.states.items():
            params = select(state.params, shown)
            statistics = recomputed(self.network, params, inputs)
            found = evaluate(self.network, params, statistics, examples, self.bed.loss)
            for i, loss, error in zip(shown, *(part.tolist() for part in found), strict=True):
                rate = float(self.rates[step, i]) if step < self.steps else 0.0
                values = [rounded(v, FEWER) if self.diverged[i] < 0 else None for v in (loss, error)]
                cell = self.cells[i]
                rows.append(CycleLook(self.bed.name, cell.arm, cell.seed, step, rounded(rate, FEWER), *values))
        return rows
