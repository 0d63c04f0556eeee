"""The training loss around given weights: worst cases within a radius, curvature, and what one step of ascent gains."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nonconvex.beds import Bed
from nonconvex.evaluation import recomputed
from nonconvex.measure.minibatches import by_minibatch, over_minibatches
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.sharpness import worst_sharpness
from nonconvex.measure.spectrum import extreme_eigenvalues, trace
from nonconvex.models.stacked import Stacked, members
from nonconvex.study_settings.sam import PerturbedBed, Sam
from nonconvex.tensors import Params


@dataclass(frozen=True)
class Surveyor:
    """Measures on the bed's training examples, with normalisation statistics recomputed at the weights and then fixed.

    Minibatches are normalised by their own statistics, as when SAM climbs on them.
    """

    bed: Bed
    network: Stacked
    how: PerturbedBed
    study: Sam
    radius: float

    @property
    def examples(self) -> tuple[Tensor, Tensor]:
        return self.bed.data.train.examples(self.how.measured)

    def objective(self, params: Params) -> Objective:
        statistics = recomputed(self.network, params, self.bed.statistics_inputs())
        return Objective(self.network, self.bed.loss, shared(*self.examples), statistics)

    def watched(self) -> Objective:
        """What a matched level is looked for in: batch norm's statistics are those of the measured examples."""
        return Objective(self.network, self.bed.loss, shared(*self.examples))

    def around(self, params: Params, curvature: bool) -> dict[str, Tensor]:
        """Every number (E,) of `observations.sam.Neighbourhood` that is asked for, by its field's name."""
        objective = self.objective(params)
        losses, one, many = self._rises(objective, params)
        found = {"train_loss": losses, "worst_loss": losses + many, "one_step_rise": one}
        if self.how.followed:
            losses, _, many = self.on_minibatches(params)
            found["minibatch_worst_loss"] = losses + many
        return found | (self._curvature(objective, params) if curvature else {})

    def worst(self, params: Params) -> Tensor:
        """(E,) largest loss within the radius, on the measured examples at once."""
        objective = self.objective(params)
        rise = worst_sharpness(objective, params, self.radius, self.study.ascent_steps).value
        return objective.losses(params).double() + rise

    def on_examples(self, params: Params) -> Sequence[Tensor]:
        """Loss, rise by one step of ascent and by many, each (E,), on the measured examples at once."""
        return self._rises(self.objective(params), params)

    def on_minibatches(self, params: Params) -> Sequence[Tensor]:
        """The same in the mean over minibatches."""
        parts = by_minibatch(self.network, self.bed.loss, params, self.examples, self.how.batch_size)
        return [over_minibatches(values, members(params)) for values in self._rises(*parts)]

    def _rises(self, objective: Objective, params: Params) -> Sequence[Tensor]:
        rises = [worst_sharpness(objective, params, self.radius, steps).value for steps in (1, self.study.ascent_steps)]
        return [objective.losses(params).double(), *rises]

    def _curvature(self, objective: Objective, params: Params) -> dict[str, Tensor]:
        study, hessian = self.study, Hessian(objective, params)
        ends = extreme_eigenvalues(hessian, study.lanczos.iterations, study.lanczos.tolerance, ends="largest")
        total = trace(hessian, study.probes, known=ends)
        adaptive = worst_sharpness(objective, params, study.adaptive_radius, study.ascent_steps, adaptive=True)
        return {
            "adaptive_rise": adaptive.value,
            "sharpness": ends.largest.value,
            "residual": ends.largest.residual / ends.largest.value.abs(),
            "trace": total.value,
            "trace_error": total.standard_error,
        }


def looks(shares: Sequence[float], steps: int) -> list[int]:
    """Numbers of updates at the given shares of a run."""
    return sorted({round(share * steps) for share in shares})
