"""What the study of SAM says about its claims: worst cases and curvature around its ends, and generalisation.

SAM is compared with plain training of as many steps and of as many gradient evaluations, seed by seed, each so that
better, or flatter, is positive. Frames hold the study's records by file name: tuning, tuned, chosen, runs,
neighbourhoods, reaches, ascents.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, TABLE = "sam", "strategy_sam", "strategies"
SAM, COMMON, PLAIN, DOUBLE, RANDOM, EQUAL = "sam", "sam_common", "plain", "plain_double", "random", "random_equal"
BUDGETS = {"equal_gradients": DOUBLE, "equal_steps": PLAIN}  # what is equal -> the plain arm for which it is
SCORES = {"accuracy": "test_error", "loss": "test_loss"}
CRITERIA = {"accuracy": "validation_error", "loss": "validation_loss"}  # what an arm is tuned by that a score judges
ENOUGH = 0.8  # share of the rise by many steps of ascent that a single one should find
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Scored:
    """A claim on a test score at the ends: `arm` against `control`."""

    name: str
    model: str
    score: str
    control: str
    arm: str = SAM

    @property
    def claim(self) -> str:
        return f"{ROW}.{self.name}.{self.model}"


@dataclass(frozen=True)
class Around:
    """A claim on the training loss around weights: SAM's against those of `control`."""

    name: str
    model: str
    quantity: str
    control: str
    at: str = "end"

    @property
    def claim(self) -> str:
        return f"{ROW}.{self.name}.{self.model}"


SCORED = (
    *(
        Scored(f"accuracy_{name}", model, "accuracy", arm)
        for model in ("mlp", "resnet")
        for name, arm in BUDGETS.items()
    ),
    *(Scored(f"loss_{name}", model, "loss", arm) for model in ("mlp", "transformer") for name, arm in BUDGETS.items()),
    Scored("random_accuracy", "mlp", "accuracy", EQUAL),
    Scored("random_tuned_accuracy", "mlp", "accuracy", RANDOM),
    Scored("common_rate_accuracy", "mlp", "accuracy", PLAIN, COMMON),
)
AROUND = (
    *(
        Around(f"worst_case_{name}", model, "worst_case", arm)
        for model in ("mlp", "resnet", "transformer")
        for name, arm in BUDGETS.items()
    ),
    Around("worst_minibatch_equal_steps", "mlp", "worst_minibatch", PLAIN),
    Around("lambda_end_equal_gradients", "mlp", "lambda", DOUBLE),
    *(Around(f"{name}_matched", "mlp", name, PLAIN, "matched") for name in ("lambda", "trace", "rise", "adaptive")),
    Around("lambda_matched", "resnet", "lambda", PLAIN, "matched"),
)
QUALITY = f"{ROW}.one_step_quality.mlp"
SHUFFLED = (DOUBLE, PLAIN, EQUAL)  # controls that are also trained on shuffled labels


def scored(frames: Frames) -> Iterator[Scored]:
    """The claims on scores of the beds that the frames have."""
    return (at for at in SCORED if at.model in set(frames["chosen"].model))


def around(frames: Frames) -> Iterator[Around]:
    """The claims on neighbourhoods of the beds that the frames have."""
    return (at for at in AROUND if at.model in set(frames["chosen"].model))


# Scores


def score(frames: Frames, at: Scored, arm: str, draw: str = "own", labels: str = "true") -> pd.Series:
    """An arm's accuracy, or its test loss with the sign changed, by seed, tuned by what the score judges."""
    rows, criterion = frames["runs"], CRITERIA[at.score]
    if draw == "other":  # SAM's second runs are at the choice of its bed's first criterion
        criterion = first_criterion(frames, at.model)
    chosen = (rows.model == at.model) & (rows.arm == arm) & (rows.criterion == criterion)
    found = rows[chosen & (rows.draw == draw) & (rows.labels == labels)].set_index("seed")[SCORES[at.score]]
    return -found


def first_criterion(frames: Frames, model: str) -> str:
    """What a bed's arms are tuned by for all that is not a score."""
    return frames["tuned"].set_index("model").loc[[model]].criterion.iloc[0]


def advantage(frames: Frames, at: Scored, labels: str = "true") -> pd.Series:
    """How much better the arm is than its control, by seed."""
    return score(frames, at, at.arm, labels=labels) - score(frames, at, at.control, labels=labels)


def same_arm(frames: Frames, at: Scored) -> pd.Series:
    """How much better SAM is than itself from other weights in another order of data, at one setting."""
    rows = frames["runs"]
    first = rows[(rows.criterion == first_criterion(frames, at.model)) & (rows.labels == "true")]
    of_sam = first[(first.model == at.model) & (first.arm == SAM)].set_index("seed")
    by_draw = {draw: of_sam[of_sam.draw == draw][SCORES[at.score]] for draw in ("own", "other")}
    return by_draw["other"] - by_draw["own"]


# Neighbourhoods


def quantity(frames: Frames, name: str, model: str, arm: str, at: str = "end", draw: str = "own") -> pd.Series:
    """What is compared around an arm's weights, by seed; NaN where there is no number, or no logarithm of it."""
    rows = frames["neighbourhoods"]
    chosen = (rows.model == model) & (rows.arm == arm) & (rows["at"] == at) & (rows.draw == draw)
    found = rows[chosen].set_index("seed")
    if name in ("worst_case", "worst_minibatch"):
        return found[{"worst_case": "worst_loss", "worst_minibatch": "minibatch_worst_loss"}[name]]
    values = {
        "lambda": found.sharpness,
        "trace": found.trace,
        "rise": found.worst_loss - found.train_loss,
        "adaptive": found.adaptive_rise,
        "loss": found.train_loss,
    }[name]
    return np.log(values.where(values > 0))


def lowering(frames: Frames, at: Around) -> pd.Series:
    """How much lower the quantity is around SAM's weights than around the control's, by seed."""
    by_arm = (quantity(frames, at.quantity, at.model, arm, at.at) for arm in (at.control, SAM))
    return next(by_arm) - next(by_arm)


def same_arm_lowering(frames: Frames, at: Around) -> pd.Series:
    """The same of SAM against itself from other weights in another order of data."""
    by_draw = {draw: quantity(frames, at.quantity, at.model, SAM, at.at, draw) for draw in ("own", "other")}
    return by_draw["other"] - by_draw["own"]


def loss_difference(frames: Frames, at: Around) -> float:
    """|mean over seeds of ln loss of the control minus that of SAM|, where the two are compared."""
    by_arm = [quantity(frames, "loss", at.model, arm, at.at) for arm in (at.control, SAM)]
    return float(abs((by_arm[0] - by_arm[1]).mean()))


def largest_residual(frames: Frames, at: Around) -> float:
    rows = frames["neighbourhoods"]
    chosen = (rows.model == at.model) & rows.arm.isin([SAM, at.control]) & (rows["at"] == at.at)
    return float(rows[chosen].residual.max())


# One step of ascent


def one_step(frames: Frames, on: str = "minibatches") -> pd.DataFrame:
    """Share of the rise by many steps of ascent that a single one finds: by seed and step of SAM's runs."""
    rows = frames["ascents"]
    rows = rows[rows.on == on]
    share = rows.one_step_rise / rows.rise.where(rows.rise > 0)
    return rows.assign(share=share)[["model", "seed", "step", "share"]]


def quality(frames: Frames) -> pd.Series:
    """Mean share over the looks at the MLP's runs, minus what would be enough, by seed."""
    rows = one_step(frames)
    of_bed = rows[rows.model == "mlp"]
    return of_bed.groupby("seed").share.agg(lambda values: values.mean(skipna=False)) - ENOUGH


# Evidence


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found = []
    for at in scored(frames):
        found += evidence.effects(at.claim, advantage(frames, at))
        found += evidence.effects(at.claim, same_arm(frames, at), "same_arm")
        if has_shuffled(at):
            found += evidence.effects(at.claim, advantage(frames, at, "shuffled"), "shuffled_labels")
    for at in around(frames):
        found += evidence.effects(at.claim, lowering(frames, at))
        found += evidence.effects(at.claim, same_arm_lowering(frames, at), "same_arm")
    return found + evidence.effects(QUALITY, quality(frames))


def has_shuffled(at: Scored) -> bool:
    """Whether the claim has a control on shuffled labels: accuracy of the MLP, where both arms were run on them."""
    return (at.model, at.score, at.arm) == ("mlp", "accuracy", SAM) and at.control in SHUFFLED


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    found = []
    for at in scored(frames):
        found += evidence.gates(at.claim, tuning_gates(frames, at.model, at.arm, at.control, CRITERIA[at.score]))
    for at in around(frames):
        values = tuning_gates(frames, at.model, SAM, at.control, first_criterion(frames, at.model))
        if at.quantity == "lambda":
            values["residual"] = largest_residual(frames, at)
        if at.at == "matched":
            values["matched_loss"] = loss_difference(frames, at)
        found += evidence.gates(at.claim, values)
    values = tuning_gates(frames, "mlp", SAM, SAM, first_criterion(frames, "mlp"))
    return found + evidence.gates(QUALITY, {name: values[name] for name in ("rate_interior", "sam_radius_bounded")})


def tuning_gates(frames: Frames, model: str, arm: str, control: str, criterion: str) -> dict[str, float]:
    """Rates inside their grids, a radius below the largest, equal numbers of trials.

    At SAM's own radius random directions had as many trials as SAM had there. SAM at plain training's rate was not
    tuned: nothing is said of trials.
    """
    rows = frames["chosen"]
    arms = rows[(rows.model == model) & (rows.criterion == criterion)].rename(columns={"rate_interior": "interior"})
    top = frames["reaches"][frames["reaches"].model == model].radius.max()
    values = tuning.gates(arms, [PLAIN if arm == COMMON else arm, control])
    values["sam_radius_bounded"] = float(arms.set_index("arm").radius[SAM] < top)
    if arm == COMMON:
        values.pop("equal_tuning")
    if control == EQUAL:
        values["equal_tuning"] = float(trials_at(frames, model, SAM) == trials_at(frames, model, RANDOM))
    return values


def trials_at(frames: Frames, model: str, arm: str) -> int:
    """Tuning trials of an arm at the radius that was chosen for SAM, by the bed's first criterion."""
    chosen, lines = frames["chosen"], frames["tuned"]
    by_arm = chosen[(chosen.model == model) & (chosen.criterion == first_criterion(frames, model))].set_index("arm")
    line = lines[(lines.model == model) & (lines.arm == f"{arm} {by_arm.radius[SAM]:g}")]
    return int(line.trials.iloc[0])


# What the notebook found


def truncated(frames: Frames, model: str, control: str) -> pd.Series:
    """What the tuning seeds would have said of SAM against `control` without rates above a cap; by cap, the last all.

    Mean validation criterion of the control's best setting minus that of SAM's, positive where SAM is better.
    """
    criterion = first_criterion(frames, model)
    trials = frames["tuning"][frames["tuning"].model == model]
    means = trials.groupby(["arm", "rate"])[criterion].agg(lambda values: values.mean(skipna=False)).reset_index()
    of_sam = means.arm.str.startswith(f"{SAM} ")
    caps = sorted({*means.rate[of_sam], means.rate.max()})
    best = lambda rows, cap: rows[rows.rate <= cap * (1 + 1e-9)][criterion].min()  # noqa: E731
    gains = [best(means[means.arm == control], cap) - best(means[of_sam], cap) for cap in caps]
    return pd.Series(gains, caps, name=control)


def findings(frames: Frames) -> list[Finding]:
    """Every contrast, every arm's scores, worst cases and curvature, and what one step of ascent finds."""
    found = []
    for at in scored(frames):
        found.append(_finding(at.model, f"{at.score} better by: {at.arm} than {at.control}", advantage(frames, at)))
    for at in around(frames):
        where = {"end": "at the end", "matched": "at matched loss"}[at.at]
        text = (
            f"{'' if at.quantity.startswith('worst') else 'ln '}{at.quantity} {where} lower by: sam than {at.control}"
        )
        found.append(_finding(at.model, text, lowering(frames, at)))
    for (model, criterion, arm, labels), rows in own_runs(frames).groupby(
        ["model", "criterion", "arm", "labels"], sort=False
    ):
        for column in ("test_error", "test_loss", "train_loss"):
            text = f"{column} of {arm}, tuned by {criterion.replace('_', ' ')}, {labels} labels"
            found.append(_finding(model, text, rows[column]))
    for on in ("minibatches", "examples"):
        shares = one_step(frames, on).groupby(["model", "seed"]).share.mean().groupby("model")
        found += [_finding(model, f"share of the rise that one step finds, {on}", values) for model, values in shares]
    return [one for one in found if one.n]


def own_runs(frames: Frames) -> pd.DataFrame:
    rows = frames["runs"]
    return rows[rows.draw == "own"]


def _finding(model: str, text: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, text, values, NOTEBOOK, TABLE)
