"""What the comparison of all schedules says about its claims: one function per claim, row by row of the table.

Signs are those of the contrasts as claims.yaml words them: of two arms, how much better the first is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.contrasts.schedule_frames import (
    BED,
    HORIZONS,
    JUDGED,
    MODELS,
    NAMES,
    PARTS,
    Frames,
    agreement,
    behind,
    extension,
    ranked,
    regret,
    score,
    siblings,
    tuned_gates,
    tuning_name,
    usable,
)
from nonconvex.records import Effect, Finding, GateValue

NOTEBOOK, TABLE = "schedule_tournament", "schedules"
LOSS, ERROR = "test_loss", "test_error"
VALIDATION = {LOSS: "validation_loss", ERROR: "validation_error"}
DECAYING = ("cosine", "linear", "warmup_cosine", "wsd", "one_cycle")  # to zero, or nearly
INSIDE = "tournament_ranges_inside"
NOTHING = pd.Series(dtype=float)


@dataclass(frozen=True)
class Evidence:
    """A claim's effects by replicate, those of its controls, and its measured gates."""

    claim: str
    values: pd.Series
    gates: dict[str, float | None]
    controls: dict[str, pd.Series] = field(default_factory=dict)


def better(frames: Frames, model: str, arm: str, than: str, column: str, use: str = "whole", **which: str) -> pd.Series:
    """How much lower an arm's loss or error is than another's, by seed."""
    return score(frames, model, than, column, use=use, **which) - score(frames, model, arm, column, use=use, **which)


def same_arm(frames: Frames, model: str, column: str, arm: str = "cosine", use: str = "whole") -> pd.Series:
    """The same between two runs of one arm: on the MLP of cosine, other weights and order; on the grid's beds order."""
    if model != BED:
        return siblings(frames, model, arm, VALIDATION[column])
    return score(frames, model, "cosine", column, use=use, draw="other") - score(
        frames, model, "cosine", column, use=use
    )


def versus(
    frames: Frames, claim: str, model: str, arm: str, than: str, column: str, use: str = "whole", equal: bool = False
) -> Evidence:
    """Two arms, each at its tuned peak, with controls unless the claim is an equivalence."""
    names = [tuning_name(name, use) for name in (arm, than)]
    controls = {} if equal else {"same_arm": same_arm(frames, model, column, _known(than), _alike(use))}
    if (model, column) == (BED, ERROR) and not equal:
        controls["shuffled_labels"] = better(frames, model, arm, than, column, use, labels="shuffled")
    values = better(frames, model, arm, than, column, use)
    return Evidence(claim, values, tuned_gates(frames, model, names), controls)


def _known(arm: str) -> str:
    """The schedule that an arm is a variant of."""
    return next(name for name in sorted(NAMES, key=len, reverse=True) if arm.startswith(name))


def _alike(use: str) -> str:
    return "fast" if use == "fast" else "whole"


def chosen(frames: Frames, claim: str, model: str, arms: Sequence[str], column: str) -> Evidence:
    """The best on the tuning seeds of variants of one schedule against the worst there, each at its tuned peak."""
    order = ranked(frames, model, arms)
    found = versus(frames, claim, model, order[0], order[-1], column)
    return Evidence(claim, found.values, tuned_gates(frames, model, arms), found.controls)


# Constant


def constant_short(frames: Frames) -> Evidence:
    return versus(frames, "constant.short_run.mlp", BED, "constant", "cosine", ERROR, "short", equal=True)


def constant_fine_tuning(frames: Frames) -> Evidence:
    return versus(frames, "constant.fine_tuning.mlp", BED, "constant", "cosine", ERROR, "fine_tuning", equal=True)


def constant_common(frames: Frames) -> Evidence:
    """At the common low peak nothing was tuned, so that there is nothing to gate."""
    arms, column = ("constant", "cosine"), ERROR
    controls = {
        "same_arm": same_arm(frames, BED, column),
        "shuffled_labels": better(frames, BED, *arms, column, "common", labels="shuffled"),
    }
    return Evidence("constant.common_peak.mlp", better(frames, BED, *arms, column, "common"), {}, controls)


def constant_range(frames: Frames) -> Evidence:
    """log10 width of the usable rates: mean of the decaying schedules minus that of constant, by tuning seed."""
    widths = {arm: usable(frames, BED, arm) for arm in ("constant", *DECAYING)}
    decaying = pd.concat([widths[arm].width for arm in DECAYING], axis=1).mean(axis=1, skipna=False)
    inside = np.mean([found.inside.mean() for found in widths.values()])
    return Evidence("constant.rate_range.mlp", decaying - widths["constant"].width, {INSIDE: inside})


# Step decay


def step_cnn(frames: Frames) -> Evidence:
    """How much better step decay stands against cosine on the ResNet than on the transformer, in SDs of the fields."""
    gains = {m: better(frames, m, "step", "cosine", LOSS) / field_width(frames, m) for m in MODELS[1:]}
    again = {m: siblings(frames, m, "cosine", VALIDATION[LOSS]) / field_width(frames, m) for m in MODELS[1:]}
    values = gains["resnet"] - gains["transformer"]
    both = [tuned_gates(frames, model, ["step", "cosine"]) for model in MODELS[1:]]
    gates = {name: _least(found[name] for found in both) for name in both[0]}
    return Evidence("step.cnn.both", values, gates, {"same_arm": again["resnet"] - again["transformer"]})


def field_width(frames: Frames, model: str) -> float:
    """SD over the eight tuned schedules of their mean test losses; NaN unless all were run."""
    means = pd.Series({arm: score(frames, model, arm, LOSS).mean() for arm in NAMES})
    return float(means.std(skipna=False))


def _least(values) -> float | None:
    found = list(values)
    return None if None in found else min(found)


def step_cosine(frames: Frames) -> Evidence:
    return versus(frames, "step.cosine_accuracy.resnet", "resnet", "step", "cosine", ERROR)


def step_factor(frames: Frames) -> Evidence:
    return chosen(frames, "step.factor_accuracy.resnet", "resnet", ("step", "step_half"), ERROR)


def step_milestones(frames: Frames) -> Evidence:
    return chosen(frames, "step.milestones_accuracy.resnet", "resnet", ("step", "step_twice"), ERROR)


# Cosine


def cosine_constant(frames: Frames) -> Evidence:
    return versus(frames, "cosine.constant_accuracy.mlp", BED, "cosine", "constant", ERROR)


def cosine_linear(frames: Frames) -> Evidence:
    return versus(frames, "cosine.linear_accuracy.mlp", BED, "cosine", "linear", ERROR)


def cosine_linear_text(frames: Frames) -> Evidence:
    return versus(frames, "cosine.linear_loss.transformer", "transformer", "cosine", "linear", LOSS)


def cosine_floor(frames: Frames) -> Evidence:
    return chosen(frames, "cosine.floor_accuracy.mlp", BED, ("cosine", "cosine_floor"), ERROR)


def cosine_horizon(frames: Frames) -> Evidence:
    """Cosine planned for half a run against a whole run's cosine that is stopped there, in test loss."""
    stopped = score(frames, BED, "cosine", LOSS, look="half")
    values = stopped - score(frames, BED, "cosine", LOSS, use="half")
    gates = tuned_gates(frames, BED, ["cosine", tuning_name("cosine", "half")])
    return Evidence("cosine.horizon_loss.mlp", values, gates, {"same_arm": same_arm(frames, BED, LOSS)})


# Warm-up + cosine


def warmup_loss(frames: Frames) -> Evidence:
    return versus(frames, "warmup_cosine.loss.transformer", "transformer", "warmup_cosine", "cosine", LOSS)


def warmup_steps(frames: Frames) -> Evidence:
    arms = ("warmup_cosine", "warmup_cosine_brief", "warmup_cosine_long")
    return chosen(frames, "warmup_cosine.steps_loss.transformer", "transformer", arms, LOSS)


# WSD


def wsd_accuracy(frames: Frames) -> Evidence:
    return versus(frames, "wsd.as_cosine_accuracy.mlp", BED, "wsd", "warmup_cosine", ERROR, equal=True)


def wsd_loss(frames: Frames) -> Evidence:
    return versus(frames, "wsd.as_cosine_loss.transformer", "transformer", "wsd", "warmup_cosine", LOSS, equal=True)


# 1-cycle


def one_cycle_fast(frames: Frames) -> Evidence:
    return versus(frames, "one_cycle.fast_accuracy.mlp", BED, "one_cycle", "cosine", ERROR, "fast")


def one_cycle_peak(frames: Frames) -> Evidence:
    """log10 of the largest usable peak, 1-cycle minus cosine, by tuning seed."""
    ours, theirs = usable(frames, BED, "one_cycle"), usable(frames, BED, "cosine")
    inside = np.mean([ours.inside.mean(), theirs.inside.mean()])
    return Evidence("one_cycle.peak.mlp", np.log10(ours.high) - np.log10(theirs.high), {INSIDE: inside})


# Inverse square root


def inverse_sqrt_loss(frames: Frames) -> Evidence:
    return versus(frames, "inverse_sqrt.loss.transformer", "transformer", "inverse_sqrt", "warmup_cosine", LOSS)


def inverse_sqrt_anytime(frames: Frames) -> Evidence:
    """Stopped at half of the run: how much lower the loss is than that of warm-up + cosine stopped there."""
    values = better(frames, BED, "inverse_sqrt", "warmup_cosine", LOSS, look="half")
    gates = tuned_gates(frames, BED, ["inverse_sqrt", "warmup_cosine"])
    return Evidence("inverse_sqrt.anytime_loss.mlp", values, gates, {"same_arm": same_arm(frames, BED, LOSS)})


def inverse_sqrt_steps(frames: Frames) -> Evidence:
    arms = ("inverse_sqrt", "inverse_sqrt_long")
    return chosen(frames, "inverse_sqrt.steps_loss.transformer", "transformer", arms, LOSS)


# Linear, and theory


def theory_ranking(frames: Frames, model: str) -> Evidence:
    gates = tuned_gates(frames, model, NAMES)
    return Evidence(f"linear.theory_ranking.{model}", agreement(frames, model), gates)


def theory_closed_form(frames: Frames) -> Evidence:
    """One replicate per schedule, in the theory's order."""
    return Evidence("linear.theory_closed_form", frames["theory"].deviation.reset_index(drop=True), {})


CLAIMS: tuple[Callable[[Frames], Evidence], ...] = (
    *(constant_short, constant_fine_tuning, constant_common, constant_range),
    *(step_cnn, step_cosine, step_factor, step_milestones),
    *(cosine_constant, cosine_linear, cosine_linear_text, cosine_floor, cosine_horizon),
    *(warmup_loss, warmup_steps, wsd_accuracy, wsd_loss, one_cycle_fast, one_cycle_peak),
    *(inverse_sqrt_loss, inverse_sqrt_anytime, inverse_sqrt_steps),
    *(partial(theory_ranking, model=BED), partial(theory_ranking, model="transformer"), theory_closed_form),
)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by replicate, and those of its controls."""
    found = []
    for one in (claim(frames) for claim in CLAIMS):
        found += evidence.effects(one.claim, one.values)
        found += [
            effect for role, values in one.controls.items() for effect in evidence.effects(one.claim, values, role)
        ]
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    return [gate for claim in CLAIMS for gate in _gates(claim(frames))]


def _gates(one: Evidence) -> list[GateValue]:
    return evidence.gates(one.claim, one.gates)


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Scores, usable rates, regrets and extensions of every schedule, and how theory agrees with every bed."""
    found = [one for arm in NAMES for one in _of_schedule(frames, arm)]
    for model in MODELS:
        found.append(_finding("linear", model, "Kendall tau of theory and test loss", agreement(frames, model)))
    before = score(frames, BED, "constant", ERROR, use="fine_tuning", look="start")
    found.append(_finding("constant", BED, "test_error before fine-tuning", before))
    return [one for one in found if one.n]


def _of_schedule(frames: Frames, arm: str) -> list[Finding]:
    found = []
    for model in MODELS:
        for column in (LOSS, ERROR):
            found.append(_finding(arm, model, f"{column}, tuned peak", score(frames, model, arm, column)))
        widths = usable(frames, model, arm)
        unit = JUDGED[model][1]
        found.append(_finding(arm, model, f"log10 width of usable rates by {unit}", widths.width))
    for column in (LOSS, ERROR):
        found.append(_finding(arm, BED, f"{column}, common peak", score(frames, BED, arm, column, use="common")))
    for look in HORIZONS:
        at = f"at {PARTS[look]:.0%} of the run"
        found.append(_finding(arm, BED, f"test-loss regret {at}", regret(frames, arm, look)))
        for model in MODELS[1:]:
            found.append(_finding(arm, model, f"training loss behind {at}", behind(frames, model, PARTS[look])[arm]))
    found.append(_finding(arm, BED, "test loss above a run planned for twice the length", extension(frames, arm)))
    if arm == "inverse_sqrt":
        quantity = "test loss above a run planned for twice the length, formula read on"
        found.append(_finding(arm, BED, quantity, extension(frames, arm, natural=True)))
    return found


def _finding(row: str, model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(row, model, quantity, values, NOTEBOOK, TABLE)
