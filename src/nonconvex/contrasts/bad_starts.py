"""What the study of bad starts says about the strategies: who leaves which region sooner than plain SGD. No torch.

Frames hold the study's records by file name: points, tuning, tuned, runs, looks. Arms are compared seed by seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

NOTEBOOK, TABLE, MODEL = "escape_bad_starts", "strategies", "mlp"
REGIONS = ("saddle", "plateau", "sharp", "bad_minimum")
ARMS = ("sgd_noise", "warmup", "restarts", "clipping", "sam", "swa", "ema")  # strategies, rows of the table
AVERAGES = ("swa", "ema")
SOONER = {  # arm -> regions with a claim of their own
    "sgd_noise": ("saddle", "sharp"),
    "warmup": ("sharp",),
    "restarts": ("sharp",),
    "sam": ("sharp",),
}
FLATTER = ("warmup", "sam")
RECOVERED = ("restarts", "sam")  # arms with a claim on the accuracy that they reach from the bad minimum
OVERSHOT = ("plateau", "sharp")
LIMITS = {"saddle": np.log(1.25), "plateau": np.log(1.25), "sharp": np.log(1.25), "bad_minimum": 0.02}  # of `badness`
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Contrast:
    """A claim's numbers by seed, its gates, and the numbers of its controls by role."""

    row: str
    name: str
    values: pd.Series
    gates: Mapping[str, float]
    controls: Mapping[str, pd.Series] = field(default_factory=dict)

    @property
    def claim(self) -> str:
        return f"{self.row}.{self.name}.{MODEL}"


# Numbers by seed


def runs(frames: Frames, arm: str, accounting: str = "tuned", draw: str = "own", **rest: str) -> pd.DataFrame:
    """Rows of an arm that start in a region, on true labels unless `rest` says otherwise."""
    wanted = {"accounting": accounting, "arm": arm, "draw": draw, "start": "region", "labels": "true"} | rest
    found = frames["runs"]
    return found[np.all([found[name] == value for name, value in wanted.items()], axis=0)]


def column(frames: Frames, name: str, region: str, arm: str, *rest: str, **more: str) -> pd.Series:
    """A number of an arm's runs from one region, by seed; NaN for those that diverged."""
    rows = runs(frames, arm, *rest, region=region, **more).set_index("seed")
    return rows[name].astype(float).where(rows.diverged_step.isna())


def times(frames: Frames, arm: str, *rest: str, place: str = "left", **more: str) -> pd.DataFrame:
    """ln of the gradient evaluations until a run left, a region a column; one that stayed counts with its budget."""
    rows = runs(frames, arm, *rest, **more)
    spent = rows[place].astype(float).fillna(rows.evaluations).where(rows.diverged_step.isna())
    found = rows.assign(spent=np.log(spent)).pivot(index="seed", columns="region", values="spent")
    return found.reindex(columns=list(REGIONS))


def sooner(frames: Frames, arm: str, accounting: str = "tuned") -> pd.DataFrame:
    """ln(evaluations of plain SGD / evaluations of the arm) by seed and region."""
    return times(frames, "none") - times(frames, arm, accounting)


def over_regions(values: pd.DataFrame) -> pd.Series:
    """The mean over the four regions; NaN where one is missing."""
    return values.mean(axis=1, skipna=False)


def twins(frames: Frames) -> pd.DataFrame:
    """The same as `sooner` of plain SGD and itself in another order of data."""
    return times(frames, "none") - times(frames, "none", "tuned", "other")


def left(frames: Frames, arm: str, place: str = "left", accounting: str = "tuned") -> pd.DataFrame:
    """1 where a run left, 0 where it stayed, NaN where it diverged, by seed and region."""
    rows = runs(frames, arm, accounting)
    found = rows[place].notna().astype(float).where(rows.diverged_step.isna())
    return rows.assign(found=found).pivot(index="seed", columns="region", values="found").reindex(columns=list(REGIONS))


def beyond_iterate(frames: Frames, arm: str) -> pd.Series:
    """Share of the regions that an average leaves minus the share that the iterate it averages leaves."""
    return over_regions(left(frames, arm) - left(frames, arm, "iterate_left"))


def gained(frames: Frames, name: str, region: str, arm: str, *rest: str, **more: str) -> pd.Series:
    """Plain SGD's number minus the arm's: what the arm takes off it."""
    return column(frames, name, region, "none", *rest, **more) - column(frames, name, region, arm, *rest, **more)


def gained_twins(frames: Frames, name: str, region: str, accounting: str = "tuned") -> pd.Series:
    return column(frames, name, region, "none", accounting) - column(frames, name, region, "none", accounting, "other")


# Curvature at equal loss


def path(frames: Frames, seed: int, arm: str, draw: str = "own", start: str = "region") -> pd.DataFrame:
    """ln loss and ln λ_max along a run, the sharp minimum before its first look if it starts there."""
    rows = frames["looks"]
    wanted = (rows.seed == seed) & (rows.arm == arm) & (rows.draw == draw) & (rows.start == start)
    found = rows[wanted].sort_values("evaluations")[["train_loss", "sharpness"]].astype(float)
    if start == "region":
        of = frames["points"]
        found = pd.concat([of[(of.region == "sharp") & (of.seed == seed)][["train_loss", "sharpness"]], found])
    return np.log(found.where(found > 0)).reset_index(drop=True)


def curvature_at(along: pd.DataFrame, level: float) -> float:
    """ln λ_max where ln loss first comes down to `level`, on straight lines between looks; NaN if it never does."""
    below = np.flatnonzero(along.train_loss <= level)
    if not len(below) or (below[0] == 0 and along.train_loss[0] < level):
        return np.nan
    last, first = along.iloc[max(below[0] - 1, 0)], along.iloc[below[0]]
    fall = last.train_loss - first.train_loss
    share = (last.train_loss - level) / fall if fall > 0 else 1.0
    return float(first.sharpness if share == 1 else last.sharpness + share * (first.sharpness - last.sharpness))


def flatter(frames: Frames, arm: str, draw: str = "own") -> pd.Series:
    """ln λ_max of plain SGD minus the arm's, at the lowest training loss that both came down to from the sharp minimum.

    Both at plain SGD's tuned peak. With arm none and draw other: plain SGD against itself.
    """
    found = {}
    for seed in sorted(set(frames["looks"].seed)):
        pair = path(frames, seed, "none"), path(frames, seed, arm, draw)
        level = max(along.train_loss.min() for along in pair)
        found[seed] = curvature_at(pair[0], level) - curvature_at(pair[1], level)
    return pd.Series(found, dtype=float)


# Gates


def badness(frames: Frames) -> pd.DataFrame:
    """By how much a region is worse than a normal start, by seed; in the units of LIMITS.

    saddle, plateau: ln ratio of the evaluations that plain SGD takes to the region's level, at one rate; sharp: ln
    ratio of λ_max at the region's loss; bad_minimum: what it lacks of the accuracy that plain SGD gets to.
    """
    points = frames["points"].pivot(index="seed", columns="region")
    normal = {seed: path(frames, seed, "none", start="normal") for seed in points.index}
    loss, top = (np.log(points[name]["sharp"].astype(float)) for name in ("train_loss", "sharpness"))
    late = times(frames, "none") - times(frames, "none", start="normal")
    lacking = points["test_error"]["bad_minimum"] - points["reference_error"]["bad_minimum"]
    usual = pd.Series({seed: curvature_at(normal[seed], loss[seed]) for seed in points.index}, dtype=float)
    return pd.DataFrame({"saddle": late.saddle, "plateau": late.plateau, "sharp": top - usual, "bad_minimum": lacking})


@dataclass(frozen=True)
class Ground:
    """What was measured of the regions: how bad, in units of what is asked, and whether they are so at all."""

    bad: Mapping[str, float]
    solved: Mapping[str, float]  # share of the seeds in which a minimum is one
    saddle: float

    def gates(self, regions: Sequence[str]) -> dict[str, float]:
        """Of a contrast over these regions."""
        gates = {"bad_starts_bad": float(np.min([self.bad[region] for region in regions]))}
        minima = [self.solved[region] for region in regions if region in self.solved]
        gates |= {"trained": min(minima)} if minima else {}
        return gates | ({"bad_starts_saddle": self.saddle} if "saddle" in regions else {})


def grounds(frames: Frames) -> Ground:
    """All of it; NaN where some seed has no number."""
    bad, points = badness(frames), frames["points"]
    worse = {region: bad[region].mean(skipna=False) / LIMITS[region] for region in REGIONS}
    shares = points.dropna(subset="solved").groupby("region").solved.mean()
    return Ground(worse, {region: float(share) for region, share in shares.items()}, saddle_error(frames))


def saddle_error(frames: Frames) -> float:
    """The larger of the gradient relative to a normal start's, and of λ_min's deviation from its closed form."""
    points = frames["points"].pivot(index="seed", columns="region")
    still = points["gradient"]["saddle"] / points["gradient"]["normal"]
    deviation = points["smallest"]["saddle"] / points["expected"]["saddle"] - 1
    return float(max(still.max(skipna=False), deviation.abs().max(skipna=False)))


def gates_of(frames: Frames, ground: Ground, arms: Sequence[str], regions: Sequence[str] = REGIONS) -> dict[str, float]:
    """Of a contrast between arms over regions: how the arms were tuned there, and the regions themselves."""
    names = [f"{region}/{arm}" for region in regions for arm in arms]
    return tuning.gates(frames["tuned"], names) | ground.gates(regions)


def residual(frames: Frames, arm: str) -> float:
    """Largest relative residual along the runs of the arm and of plain SGD, and at their start."""
    looks, points = frames["looks"], frames["points"]
    along = looks[looks.arm.isin([arm, "none"]) & (looks.start == "region")].residual
    return float(max(along.max(), points[points.region == "sharp"].residual.max(skipna=False)))


# Claims


def contrasts(frames: Frames) -> Iterator[Contrast]:
    """Every claim of the study."""
    ground, same = grounds(frames), {"same_arm": over_regions(twins(frames))}
    for arm in ARMS:
        values = over_regions(sooner(frames, arm))
        yield Contrast(arm, "escapes_regions", values, gates_of(frames, ground, (arm, "none")), same)
    for region in REGIONS:
        found = left(frames, "none")[region]
        yield Contrast("sgd_noise", f"plain_leaves_{region}", found, gates_of(frames, ground, ("none",), (region,)))
    yield from about_regions(frames, ground)
    for arm in AVERAGES:
        yield Contrast(arm, "beyond_iterate", beyond_iterate(frames, arm), gates_of(frames, ground, (arm,)))


def about_regions(frames: Frames, ground: Ground) -> Iterator[Contrast]:
    """Claims on one strategy in one region."""
    for arm, region in [(arm, region) for arm, regions in SOONER.items() for region in regions]:
        gates, same = gates_of(frames, ground, (arm, "none"), (region,)), {"same_arm": twins(frames)[region]}
        yield Contrast(arm, f"leaves_{region}", sooner(frames, arm)[region], gates, same)
    for arm in FLATTER:
        gates = gates_of(frames, ground, ("none",), ("sharp",)) | {"residual": residual(frames, arm)}
        same = {"same_arm": flatter(frames, "none", "other")}
        yield Contrast(arm, "sharp_lambda_matched", flatter(frames, arm), gates, same)
    gates = gates_of(frames, ground, ("restarts", "none"), ("sharp",))
    same = {"same_arm": -gained_twins(frames, "barrier", "sharp")}
    yield Contrast("restarts", "sharp_barrier", -gained(frames, "barrier", "sharp", "restarts"), gates, same)
    for region in OVERSHOT:
        same = {"same_arm": gained_twins(frames, "spikes", region, "above")}
        values = gained(frames, "spikes", region, "clipping", "above")
        yield Contrast("clipping", f"{region}_spikes", values, gates_of(frames, ground, ("none",), (region,)), same)
    for arm in RECOVERED:
        at = ("test_error", "bad_minimum", arm)
        controls = {
            "same_arm": gained_twins(frames, *at[:2]),
            "shuffled_labels": gained(frames, *at, labels="shuffled"),
        }
        gates = gates_of(frames, ground, (arm, "none"), ("bad_minimum",))
        yield Contrast(arm, "accuracy_bad_minimum", gained(frames, *at), gates, controls)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's numbers and its controls'."""
    found = []
    for one in contrasts(frames):
        found += evidence.effects(one.claim, one.values)
        for role, values in one.controls.items():
            found += evidence.effects(one.claim, values, role)
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    return [gate for one in contrasts(frames) for gate in evidence.gates(one.claim, one.gates)]


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Every claim's numbers, and what every arm came to in every region, also at plain SGD's peak."""
    found = [_finding(one.row, one.name.replace("_", " "), one.values) for one in contrasts(frames)]
    for arm in ARMS:
        for accounting in ("tuned", "common"):
            if len(runs(frames, arm, accounting)):
                found += _per_region(arm, sooner(frames, arm, accounting), accounting)
    for arm in ("none", *ARMS):
        for region in REGIONS:
            for name in ("left", "train_loss", "test_error", "sharpness", "barrier"):
                values = left(frames, arm)[region] if name == "left" else column(frames, name, region, arm)
                found.append(_finding(arm, f"{name} from {region}, tuned peak", values))
    return [one for one in found if one.n]


def _per_region(arm: str, values: pd.DataFrame, accounting: str) -> Iterator[Finding]:
    for region, own in values.items():
        yield _finding(arm, f"ln evaluations none over {arm}, {region}, {accounting} peak", own)
    yield _finding(arm, f"ln evaluations none over {arm}, mean over regions, {accounting} peak", over_regions(values))


def _finding(row: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(row, MODEL, quantity, values, NOTEBOOK, TABLE)


def summary(frames: Frames) -> pd.DataFrame:
    """Strategy x region: share left and median evaluations (the budget where a run stayed), at own tuned peaks."""
    cells = {}
    for arm in ("none", *ARMS):
        gone, spent = left(frames, arm).mean(), np.exp(times(frames, arm)).median()
        cells[arm] = {r: f"{gone[r]:.0%}, {spent[r]:.0f}" if np.isfinite(gone[r]) else "" for r in REGIONS}
    return pd.DataFrame(cells).T
