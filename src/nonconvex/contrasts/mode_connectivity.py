"""What the paths of the mode-connectivity study say about its claims. No torch.

A barrier is the highest value along a path minus the mean of its two ends (Frankle et al. 2020, section 2), where
nothing else is said; a replicate is a pair of networks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "mode_connectivity", "property_mode_connectivity"
LOW = 0.02  # test error; the criterion of Frankle et al. 2020 for a path without a barrier
FLAT = 0.1  # of the way from the ends up to chance
HALF = 0.5  # of the straight line's barrier
INNER = (0.25, 0.75)  # where a curve between any two ends is nearest to its own control point
KINDS = {
    "linear": "straight line",
    "aligned": "straight line after alignment",
    "renumbered": "straight line after a random renumbering",
    "bezier": "Bezier curve",
    "autoneb": "AutoNEB chain",
}
DEFINITIONS = {
    "over_line": "the line between its ends",
    "over_mean": "the mean of its ends",
    "over_worse_end": "its worse end",
}


@dataclass(frozen=True)
class Frames:
    """Frames of Endpoint, Height and Along."""

    endpoints: pd.DataFrame
    heights: pd.DataFrame
    along: pd.DataFrame

    @property
    def widths(self) -> dict[str, int]:
        """Each bed's own width, the only one whose paths are kept in `along`."""
        return self.along.groupby("model", sort=False).width.first().to_dict()

    def height(
        self,
        model: str,
        kind: str,
        on: str = "train_error",
        ends: str = "trained",
        column: str = "over_mean",
        width: int | None = None,
    ) -> pd.Series:
        """One of a path's heights by replicate; `on` is a split and a metric, `width` the bed's own if not given."""
        split, metric = on.split("_")
        where = {"model": model, "width": width or self.widths[model], "kind": kind, "ends": ends}
        rows = _where(self.heights, **where, split=split, metric=metric)
        return rows.set_index("seed")[column].astype(float)

    def ends_mean(self, model: str, on: str) -> pd.Series:
        """Mean of the two ends' value by replicate."""
        return (self.height(model, "linear", on, column="first") + self.height(model, "linear", on, column="last")) / 2

    def chance(self, model: str) -> float:
        """Loss of giving every class the same probability."""
        return float(_where(self.endpoints, model=model).chance_loss.iloc[0])


def _where(frame: pd.DataFrame, **values: str | int) -> pd.DataFrame:
    return frame[np.logical_and.reduce([frame[column] == value for column, value in values.items()])]


def low(frames: Frames, model: str, kind: str, ends: str = "trained") -> pd.Series:
    """LOW minus the test-error barrier: positive for a path without one."""
    return LOW - frames.height(model, kind, "test_error", ends)


def gain(frames: Frames, model: str, kind: str, ends: str = "trained") -> pd.Series:
    """Training-error barrier of the straight line minus that of another path: positive where that is lower."""
    return frames.height(model, "linear", ends=ends) - frames.height(model, kind, ends=ends)


def other_pairs(frames: Frames, model: str) -> pd.Series:
    """The same barrier of the same kind of curve, between this pair and between this and the next."""
    return frames.height(model, "bezier") - frames.height(model, "bezier", ends="next")


def relative_height(frames: Frames, model: str, kind: str = "bezier") -> pd.Series:
    """Training-loss barrier as a share of the way from the ends' mean up to chance."""
    return frames.height(model, kind, "train_loss") / (frames.chance(model) - frames.ends_mean(model, "train_loss"))


def share_of_line(frames: Frames, model: str, kind: str = "bezier") -> pd.Series:
    """Training-loss barrier as a share of the straight line's."""
    return frames.height(model, kind, "train_loss") / frames.height(model, "linear", "train_loss")


def slope_per_doubling(frames: Frames, kind: str) -> pd.Series:
    """Least-squares slope of ln(training-loss barrier) over log2(width), of replicates with every width."""
    widths = sorted(_where(frames.heights, model="resnet", kind="bezier").width.unique())
    columns = {width: frames.height("resnet", kind, "train_loss", width=width) for width in widths}
    table = np.log(pd.DataFrame(columns).where(lambda barriers: barriers > 0)).dropna()
    if table.empty or len(widths) < 2:
        return pd.Series(dtype=float)
    x = np.log2(widths) - np.log2(widths).mean()
    # b = sum_w (x_w - x) y_w / sum_w (x_w - x)^2
    return table @ x / (x @ x)


def inner_highest(frames: Frames, ends: str) -> pd.Series:
    """Highest test error of the ResNet's Bezier curves on their inner half."""
    rows = _where(frames.along, model="resnet", kind="bezier", ends=ends)
    return rows[rows.t.between(*INNER)].groupby("seed").test_error.max()


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast in every replicate, and that of its controls."""
    return [record for name, role, values in _contrasts(frames) for record in evidence.effects(name, values, role)]


def _contrasts(frames: Frames) -> Iterator[tuple[str, str, pd.Series]]:
    """(claim, role, effect by replicate)."""
    for model in ("resnet", "transformer"):
        for kind in ("bezier", "autoneb", "aligned"):
            if len(frames.height(model, kind)):
                yield _name(f"{kind}_gain", model), "claim", gain(frames, model, kind)
                if (kind, model) != ("bezier", "resnet"):
                    yield _name(f"{kind}_gain", model), "same_arm", gain(frames, model, "renumbered")
        yield _name("bezier_low", model), "claim", low(frames, model, "bezier")
        yield _name("one_basin", model), "claim", low(frames, model, "aligned")
        yield _name("valley_floor", model), "claim", FLAT - relative_height(frames, model)
    yield _name("autoneb_low"), "claim", low(frames, "resnet", "autoneb")
    yield _name("valley_share"), "claim", HALF - share_of_line(frames, "resnet")
    yield _name("width_aligned"), "claim", slope_per_doubling(frames, "aligned")
    yield _name("bezier_gain"), "same_arm", other_pairs(frames, "resnet")
    yield _name("bezier_gain"), "shuffled_labels", gain(frames, "resnet", "bezier", "shuffled")
    yield _name("bezier_low"), "shuffled_labels", low(frames, "resnet", "bezier", "shuffled")


def _name(short: str, model: str = "resnet") -> str:
    return f"{ROW}.{short}.{model}"


def gates(frames: Frames, good_loss: Mapping[str, float]) -> list[GateValue]:
    """What every measured gate of every claim was; `good_loss` is the bed's, by model."""
    names = sorted({name for name, role, _ in _contrasts(frames) if role == "claim"})
    found = []
    for name in names:
        _, short, model = name.split(".")
        own = None if short.startswith("width") else frames.widths[model]
        values = {"trained": trained_share(frames, model, good_loss[model], own)}
        values |= {"equal_gradients": equal_gradients(frames)} if short.startswith("autoneb") else {}
        values |= {"random_ends": random_ends(frames)} if name in map(_name, ("valley_floor", "valley_share")) else {}
        found += evidence.gates(name, values)
    return found


def trained_share(frames: Frames, model: str, good_loss: float, width: int | None) -> float:
    """Share of a model's networks, of one width or of all, whose training loss came down to `good_loss`."""
    networks = _where(frames.endpoints, model=model, labels="true", **({"width": width} if width else {}))
    return float((networks.train_loss <= good_loss).mean())


def equal_gradients(frames: Frames) -> float:
    """1 if all Bezier curves and AutoNEB chains of the ResNet cost the same."""
    costs = [frames.height("resnet", kind, column="gradient_evaluations") for kind in ("bezier", "autoneb")]
    return float(pd.concat(costs).nunique() == 1)


def random_ends(frames: Frames) -> float:
    """How far the inner half of a curve between untrained networks is above the trained ones, in test error."""
    return float((inner_highest(frames, "initial") - frames.ends_mean("resnet", "test_error")).mean())


def findings(frames: Frames) -> list[Finding]:
    """The numbers of the row, model by model."""
    quantities = [(model, *found) for model in frames.widths for found in _of_model(frames, model)]
    quantities += [("resnet", *found) for found in _of_controls(frames)]
    return [evidence.finding(ROW, model, quantity, values, NOTEBOOK) for model, quantity, values in quantities]


def _of_model(frames: Frames, model: str) -> Iterator[tuple[str, pd.Series]]:
    yield "Test error of the ends", frames.ends_mean(model, "test_error")
    yield "Training loss of the ends", frames.ends_mean(model, "train_loss")
    for kind, label in KINDS.items():
        if len(frames.height(model, kind)):
            yield f"Test-error barrier, {label}", frames.height(model, kind, "test_error")
            yield f"Training-error barrier, {label}", frames.height(model, kind)
    for column, over in DEFINITIONS.items():
        barrier = frames.height(model, "bezier", "train_loss", column=column)
        yield f"Training-loss barrier of the Bezier curve over {over}", barrier
    yield "Bezier barrier as a share of the straight line's, training loss", share_of_line(frames, model)


def _of_controls(frames: Frames) -> Iterator[tuple[str, Sequence[float]]]:
    """Controls and moderators, of the ResNet alone."""
    for ends, label in (("trained", "trained"), ("initial", "untrained")):
        yield f"Highest test error on the inner half of a curve between {label} networks", inner_highest(frames, ends)
    shuffled = frames.height("resnet", "bezier", "test_error", "shuffled")
    yield "Test-error barrier, Bezier curve to a network trained on shuffled labels", shuffled
    yield "Share of that curve within two points of its trained end", reach(frames)
    for kind in ("linear", "aligned", "bezier"):
        slopes = slope_per_doubling(frames, kind)
        yield f"Slope of the log barrier per doubling of width, {KINDS[kind]}", slopes
    yield "Share of a ring of networks held together by curves lower than two points", [ring_share(frames)]


def reach(frames: Frames) -> pd.Series:
    """Share of the places on the curve to a shuffled-label network that are within LOW of the trained end's error."""
    rows = _where(frames.along, model="resnet", kind="bezier", ends="shuffled").set_index("seed").test_error
    start = frames.height("resnet", "bezier", "test_error", "shuffled", "first")
    return (rows <= start.reindex(rows.index) + LOW).groupby(level="seed").mean()


def ring_share(frames: Frames) -> float:
    """Largest set of networks connected at LOW, in the ring of pairs and the curves that join each to the next."""
    here, onward = (low(frames, "resnet", "bezier", ends) >= 0 for ends in ("trained", "next"))
    links = np.column_stack([here.reindex(onward.index, fill_value=False), onward]).ravel()
    return largest_on_ring(links)


def largest_on_ring(links: Sequence[bool]) -> float:
    """Share of n nodes in the largest component of a ring, link i joining node i and i + 1 mod n."""
    links = np.asarray(links, bool)
    if links.all():
        return 1.0
    unrolled = "".join("#" if link else " " for link in np.roll(links, -int(np.argmin(links))))
    return (max(map(len, unrolled.split()), default=0) + 1) / len(links)
