"""The networks that the study of skip connections compares, and the groups of runs that train in one cohort."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor, nn

from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.data.splits import Arrays
from nonconvex.models.delta_orthogonal import delta_orthogonal
from nonconvex.observations.skip_connections import Arm as ArmRecord
from nonconvex.studies.training import with_architecture, with_shuffled_labels

LEVELS = ("shallow", "middle", "deep")
BATCH = ("plain_batch", "skip_batch")
KINDS = (*BATCH, "plain_none", "orthogonal_none", "skip_none", "scaled_none")  # those without norm at the deepest only
TWIN = 5000  # added to the seeds of runs that differ from their twins in nothing else
VARIANTS = {  # of the deep arms: what is also trained, beside the reported runs
    "plain_batch": ("shuffled", "longer"),
    "skip_batch": ("twin", "shuffled"),
    "scaled_none": ("twin",),
}
MATCHED = BATCH  # whose gradients are compared at matched loss, at the deepest


@dataclass(frozen=True)
class Arm:
    """A kind of network at a level of depth."""

    kind: str
    level: str

    @property
    def name(self) -> str:
        return f"{self.level}_{self.kind}"

    @property
    def variants(self) -> tuple[str, ...]:
        return VARIANTS.get(self.kind, ()) if self.level == "deep" else ()

    @property
    def matched(self) -> bool:
        return self.level == "deep" and self.kind in MATCHED


def arms() -> list[Arm]:
    """All arms, the costly ones first."""
    return [Arm(kind, "deep") for kind in KINDS] + [Arm(kind, level) for level in LEVELS[1::-1] for kind in BATCH]


class DeltaOrthogonal(Bed):
    """The bed with delta-orthogonal initial weights in all convolutions."""

    def build(self) -> nn.Module:
        return delta_orthogonal(super().build())


def bed_for(settings: Settings, kind: str, depth: int) -> Bed:
    """The ResNet's bed with a kind of network of some depth."""
    s, bed = settings.factors.skip_connections, bed_of(settings, "resnet")
    bed = replace(bed, training=bed.training.model_copy(update={"statistics_examples": s.examples}))
    if kind == "orthogonal_none":
        bed = DeltaOrthogonal(**{field.name: getattr(bed, field.name) for field in fields(bed)})
    return with_architecture(bed, depth=depth, width=s.width, **options(kind, depth))


def options(kind: str, depth: int) -> dict:
    """Skip, norm and scale of the branches: for `scaled` the inverse root of the number of blocks (Hayou 2021)."""
    start, norm = kind.split("_")
    scale = ((depth - 2) // 2) ** -0.5 if start == "scaled" else 1.0
    return {"skip": start in ("skip", "scaled"), "norm": norm, "branch_scale": scale}


def record(arm: Arm, bed: Bed) -> ArmRecord:
    found = bed.training.architecture
    return ArmRecord(
        arm.name,
        arm.kind,
        depth=found["depth"],
        width=found["width"],
        skip="yes" if found["skip"] else "no",
        norm=found["norm"],
        initialisation="delta_orthogonal" if isinstance(bed, DeltaOrthogonal) else "he",
        branch_scale=found["branch_scale"],
        parameters=sum(p.numel() for p in bed.build().parameters()),
    )


@dataclass(frozen=True)
class Group:
    """Runs of one name in a cohort: the seeds they are reported under, those they are drawn from, and their data."""

    arm: str
    seeds: Sequence[int]
    drawn: Sequence[int]
    data: Arrays


def groups(arm: Arm, bed: Bed, seeds: Sequence[int], controls: int) -> list[Group]:
    """The reported runs of an arm, its twins and its runs on shuffled labels, which take as many steps."""
    few, found = seeds[:controls], [Group(arm.name, seeds, seeds, bed.data.train)]
    if "twin" in arm.variants:
        found.append(Group(f"{arm.name}_twin", few, [seed + TWIN for seed in few], bed.data.train))
    if "shuffled" in arm.variants:
        found.append(Group(f"{arm.name}_shuffled", few, few, with_shuffled_labels(bed, 0).data.train))
    return found


def batches(parts: Sequence[Group], size: int) -> Callable[[Sequence[int], int], tuple[Tensor, Tensor]]:
    """Each group's own minibatches, one after the other along the member axis."""
    return partial(_batch, parts, size)


def _batch(parts: Sequence[Group], size: int, order: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
    x, y = zip(*(part.data.batch(part.drawn, step, size) for part in parts), strict=True)
    return torch.cat(x), torch.cat(y)
