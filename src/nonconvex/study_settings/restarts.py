"""Settings of the study of restarts."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, refuse_repeats
from nonconvex.study_settings.base import Study

TunedArmName = Literal["restarts", "cosine", "wsd"]


class CycledBed(Axis):
    """One bed: a cosine restarted in cycles, and schedules of the same length that never rise again.

    `arms` are tuned. Variants take the tuned peak of `restarts`, as does a run at a constant rate: with `equal` cycles
    of one length, and later cycles that begin at each of `heights` times the peak. The first so many of `seeds` are
    replicates, `variants` and `shuffled` of them also have the variants and are also trained on shuffled labels;
    `together` seeds share a cohort.
    """

    arms: Annotated[tuple[TunedArmName, ...], Field(min_length=2)]
    equal: bool
    heights: tuple[Positive, ...]
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peak rates tried for every arm, rising
    tuning_seeds: Count  # how many of `tuning` are used
    replicates: Annotated[int, Field(ge=2)]
    variants: Annotated[int, Field(ge=0)]
    shuffled: Annotated[int, Field(ge=0)]
    together: Count
    steps: Count
    batch_size: Count
    looks: Annotated[int, Field(ge=2)]  # readings along a run, beside those at the ends of cycles
    looked: Count  # test examples of such a reading, and as many training inputs for its normalisation statistics
    line_examples: Count  # training examples on the lines between ends of cycles
    line_test_examples: Count
    validation_examples: Count | None = None  # null: all
    train_examples: Count | None = None
    test_examples: Count | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        refuse_repeats("arms", self.arms)
        refuse_repeats("heights", (1.0, *self.heights))
        if missing := [arm for arm in ("restarts", "cosine") if arm not in self.arms]:
            raise ValueError(f"arms must name {' and '.join(missing)}, found {', '.join(self.arms)}")
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise without repeats, found {list(self.rates)}")
        return self


class Restarts(Study):
    """`cycles` cosines one after the other, each `growth` times as long as the one before; in `equal`, as long."""

    tuning: Seeds = (1000, 1001)
    cycles: Annotated[int, Field(ge=3)] = 3
    growth: Annotated[int, Field(ge=2)] = 2
    points: Annotated[int, Field(ge=3)] = 9  # of a line between two ends
    beds: dict[Literal["mlp", "resnet"], CycledBed]
    cohort: Count = 20  # members of a cohort of tuning runs; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, bed in self.beds.items():
            if bed.replicates > len(self.seeds) or max(bed.variants, bed.shuffled) > bed.replicates:
                allowed = f"variants, shuffled <= replicates <= {len(self.seeds)}, the number of seeds"
                raise ValueError(f"beds.{name}: {allowed}, allowed")
            if bed.tuning_seeds > len(self.tuning):
                raise ValueError(f"beds.{name}: at most {len(self.tuning)} tuning_seeds allowed")
            shortest = sum(self.growth**i for i in range(self.cycles))
            if bed.steps < shortest:
                raise ValueError(f"beds.{name}: steps is {bed.steps}; at least {shortest}, a step for a cycle, allowed")
        return self
