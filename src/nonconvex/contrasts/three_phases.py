"""What the study of three phases says about its claims. No torch.

CLAIMS holds every claim with the function that reads its effect from one bed, the control between two branches that
differ in their data order alone, the margins, and the sign that the literature predicts. Effects are contrasts as
claims.yaml words them; `text` is the sign that the text's sentence gives them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import log as ln

import pandas as pd

from nonconvex import statistics
from nonconvex.contrasts import evidence
from nonconvex.contrasts.phase_frames import (
    PHASES,
    Frames,
    boundary,
    curvature,
    falls,
    lengths,
    line,
    log,
    point,
    shares,
)
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "three_phases", "three_phases"
LARGE, SMALL = ("resnet", "transformer"), ("mlp", "mlp_squared_error")
BEDS = (*LARGE, *SMALL)
LEARNED = 0.75  # a network has trained if its training loss fell to this share of that at the end of the warm-up
TUNED, TRAINED = ("rate_interior",), ("rate_interior", "trained")
GUESS = {"mlp_squared_error": 0.45 / ln(10)}  # loss of a guess under squared error over that under cross-entropy
Reader = Callable[[Frames, str], pd.Series]  # (frames, bed) -> effect by seed


@dataclass(frozen=True)
class Claimed:
    """One kind of claim; `control` is the effect between branches that differ in their data order alone."""

    effect: Reader
    margin: float
    text: int  # sign of the effect that the text predicts
    literature: int | None  # 0: within the margin; None: no prediction
    gates: tuple[str, ...]
    beds: tuple[str, ...] = BEDS
    control: Reader | None = None
    shuffled: Reader | None = None
    in_loss: bool = False  # the margin is in units of the loss, and scales with that of a guess

    def margin_of(self, bed: str) -> float:
        return self.margin * (GUESS.get(bed, 1.0) if self.in_loss else 1.0)


# Warm-up and stable phase


def drop_rates(frames: Frames, bed: str, quantity: str, phase: str, other: str) -> pd.Series:
    """ln of how much faster a quantity falls per update in `phase` than in `other`."""
    found, updates = falls(frames, bed, quantity), lengths(frames, bed)
    return log(found[phase] / updates[phase]) - log(found[other] / updates[other])


def warmup_cause(frames: Frames, bed: str) -> pd.Series:
    """ln of the drop in as many updates as the warm-up has, with it over without it."""
    start = boundary(frames, bed, "start", "train_loss")
    cold = point(frames, bed, "no_warmup", "warm", "train_loss")
    return log(start - boundary(frames, bed, "warm", "train_loss")) - log(start - cold)


def stable_lead(frames: Frames, bed: str, quantity: str) -> pd.Series:
    """The stable phase's share of what is learned minus the largest other phase's."""
    found = shares(frames, bed, quantity)
    return found.stable - found[["warmup", "decay"]].max(axis=1, skipna=False)


def stable_distance(frames: Frames, bed: str) -> pd.Series:
    """ln of the stable phase's displacement over the larger one of the two others."""
    found = pd.DataFrame({phase: line(frames, bed, phase, "distance") for phase in PHASES})
    return log(found.stable) - log(found[["warmup", "decay"]].max(axis=1, skipna=False))


def stable_barrier(frames: Frames, bed: str) -> pd.Series:
    return line(frames, bed, "stable", "barrier")


def distances(frames: Frames, bed: str, one: str, other: str) -> pd.Series:
    """ln of the displacement of branch `one` from the fork over that of `other`, after equally many updates."""
    return log(line(frames, bed, one, "distance")) - log(line(frames, bed, other, "distance"))


# Decay: the branch `one` minus the branch `other`, both from the fork and equally long


def end(frames: Frames, bed: str, arm: str, column: str, labels: str = "true") -> pd.Series:
    return point(frames, bed, arm, "end", column, labels)


def extra_drop(frames: Frames, bed: str, one: str, other: str) -> pd.Series:
    """By how much more the log training loss of `one` has fallen since the fork."""
    return log(end(frames, bed, other, "train_loss")) - log(end(frames, bed, one, "train_loss"))


def accuracy(frames: Frames, bed: str, one: str, other: str, labels: str = "true") -> pd.Series:
    return end(frames, bed, other, "test_error", labels) - end(frames, bed, one, "test_error", labels)


def loss_on_test(frames: Frames, bed: str, one: str, other: str) -> pd.Series:
    return end(frames, bed, one, "test_loss") - end(frames, bed, other, "test_loss")


def gap(frames: Frames, bed: str, one: str, other: str) -> pd.Series:
    """The difference of test minus training loss."""
    fitted = end(frames, bed, one, "train_loss") - end(frames, bed, other, "train_loss")
    return loss_on_test(frames, bed, one, other) - fitted


def sharpness(frames: Frames, bed: str, one: str, other: str, at: str, measure: str) -> pd.Series:
    """ln of a measure of `one` over that of `other`."""
    return log(curvature(frames, bed, one, at, measure)) - log(curvature(frames, bed, other, at, measure))


def sharpened(frames: Frames, bed: str) -> pd.Series:
    """ln λ_max at the end of the decay over that at its start."""
    before = curvature(frames, bed, "trunk", "fork", "lambda_max")
    return log(curvature(frames, bed, "decay", "end", "lambda_max")) - log(before)


def branches(read: Callable, **options: str) -> dict[str, Reader]:
    """The effect of a decay, and its control."""
    return {
        "effect": partial(read, one="decay", other="stay", **options),
        "control": partial(read, one="other_order", other="stay", **options),
    }


def flat(at: str, measure: str, beds: tuple[str, ...] = BEDS) -> Claimed:
    """The text: flatter; Hägele et al. 2024, on language models, and this project's own edge of stability: sharper."""
    gates = (*TRAINED, *(("residual",) * (measure == "lambda_max")), *(("matched_loss",) * (at == "matched")))
    literature = 1 if measure == "lambda_max" else None
    return Claimed(**branches(sharpness, at=at, measure=measure), margin=0.2, text=-1, literature=literature,
                   gates=gates, beds=beds)  # fmt: skip


FACTOR = ln(1.25)
CLAIMS: dict[str, Claimed] = {
    "warmup_drop": Claimed(
        partial(drop_rates, quantity="loss", phase="warmup", other="stable"), ln(1.5), 1, 1, TRAINED
    ),
    "warmup_cause": Claimed(warmup_cause, FACTOR, 1, None, TUNED, LARGE),
    "stable_accuracy": Claimed(partial(stable_lead, quantity="accuracy"), 0.1, 1, None, TRAINED),
    "stable_loss": Claimed(partial(stable_lead, quantity="loss"), 0.1, 1, None, TRAINED, LARGE),
    "stable_log_loss": Claimed(partial(stable_lead, quantity="log_loss"), 0.1, 1, None, TRAINED, LARGE),
    "stable_distance": Claimed(stable_distance, FACTOR, 1, 1, TRAINED, LARGE),
    "stable_barrier": Claimed(stable_barrier, 0.1, 1, 0, TRAINED, in_loss=True),
    "stay_distance": Claimed(
        effect=partial(distances, one="stay", other="decay"),
        control=partial(distances, one="stay", other="other_order"),
        margin=FACTOR, text=1, literature=1, gates=TRAINED, beds=LARGE,
    ),
    "decay_slow": Claimed(
        partial(drop_rates, quantity="log_loss", phase="decay", other="stable"), FACTOR, -1, 1, TRAINED
    ),
    "decay_slow_stay": Claimed(**branches(extra_drop), margin=FACTOR, text=-1, literature=1, gates=TRAINED),
    "decay_accuracy": Claimed(
        **branches(accuracy), margin=0.01, text=1, literature=1, gates=TRAINED, beds=("resnet", *SMALL),
        shuffled=partial(accuracy, one="decay", other="stay", labels="shuffled"),
    ),
    "decay_test_loss": Claimed(
        **branches(loss_on_test), margin=0.02, text=-1, literature=-1, gates=TRAINED, in_loss=True
    ),
    "decay_gap": Claimed(
        **branches(gap), margin=0.02, text=-1, literature=None, gates=TRAINED, beds=LARGE, in_loss=True
    ),
    "decay_flat_matched": flat("matched", "lambda_max"),
    "decay_flat_end": flat("end", "lambda_max"),
    "decay_flat_start": Claimed(sharpened, 0.2, -1, 1, (*TRAINED, "residual"), LARGE),
    "decay_trace_matched": flat("matched", "trace"),
    "decay_adaptive_matched": flat("matched", "adaptive_sharpness"),
}  # fmt: skip


def name(short: str, bed: str) -> str:
    return f"{ROW}.{short}.{bed}"


def claimed() -> Iterator[tuple[str, str]]:
    """(short name, bed) of every claim."""
    yield from ((short, bed) for short, claim in CLAIMS.items() for bed in claim.beds)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast by seed, and its controls where it has some."""
    found = []
    for short, bed in claimed():
        claim = CLAIMS[short]
        found += evidence.effects(name(short, bed), claim.effect(frames, bed))
        if claim.control:
            found += evidence.effects(name(short, bed), claim.control(frames, bed), "same_arm")
        if claim.shuffled and bed in set(frames.points.bed[frames.points.labels == "shuffled"]):
            found += evidence.effects(name(short, bed), claim.shuffled(frames, bed), "shuffled_labels")
    return found


# Gates


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    found = []
    for short, bed in claimed():
        values = {gate: GATES[gate](frames, bed, short) for gate in CLAIMS[short].gates}
        found += evidence.gates(name(short, bed), values)
    return found


def rate_interior(frames: Frames, bed: str, short: str) -> float:
    """1 if the bed's peak rate lies strictly inside its grid."""
    return float(frames.tuned.set_index("arm").interior.reindex([bed]).iloc[0])


def trained(frames: Frames, bed: str, short: str) -> float:
    """Share of runs whose training loss fell to LEARNED of that at the end of the warm-up, or below."""
    fall = boundary(frames, bed, "end", "train_loss") / boundary(frames, bed, "warm", "train_loss")
    return float((fall <= LEARNED).mean())


def residual(frames: Frames, bed: str, short: str) -> float:
    """Largest residual of the eigenpairs that a claim compares, relative to the eigenvalue."""
    at = {"decay_flat_matched": ["matched"], "decay_flat_end": ["end"], "decay_flat_start": ["fork", "end"]}[short]
    rows = frames.curvature[(frames.curvature.bed == bed) & frames.curvature["at"].isin(at)]
    return float((rows.residual / rows.lambda_max.abs()).max())


def matched_loss(frames: Frames, bed: str, short: str) -> float:
    """|mean over seeds| of the same contrast of ln training loss at the matched states."""
    return float(abs(LOSS_AT_MATCH(frames, bed).mean()))


LOSS_AT_MATCH = partial(sharpness, one="decay", other="stay", at="matched", measure="train_loss")
GATES = {gate.__name__: gate for gate in (rate_interior, trained, residual, matched_loss)}


# What is predicted, and what is found


def predictions(frames: Frames) -> pd.DataFrame:
    """Per claim the signs that text and literature predict, that of the data, and which prediction the data take."""
    found = [_prediction(frames, short, bed) for short, bed in claimed() if bed in frames.beds]
    return pd.DataFrame(found)


def _prediction(frames: Frames, short: str, bed: str) -> dict[str, object]:
    claim = CLAIMS[short]
    found = statistics.mean(claim.effect(frames, bed).dropna())
    seen = sign(found, claim.margin_of(bed))
    signs = {"the text": claim.text, "the literature": claim.literature}
    right = [who for who, predicted in signs.items() if predicted is not None and predicted == seen]
    words = {f"{who} predicts": _word(predicted) for who, predicted in signs.items()}
    numbers = {"mean": found.estimate, "low": found.low, "high": found.high, "n": found.n}
    taken = "undecided" if seen is None else " and ".join(right) or "neither"
    return {"claim": short, "bed": bed, **words, **numbers, "the data show": _word(seen), "the data take": taken}


def sign(found: statistics.Interval, margin: float) -> int | None:
    """1 or -1: beyond zero with its interval, by the margin at least; 0: within the margins; None: none of these."""
    for side in (1, -1):
        if side * found.estimate >= margin and min(side * found.low, side * found.high) > 0:
            return side
    return 0 if -margin < found.low and found.high < margin else None


def _word(sign: int | None) -> str:
    return {1: "positive", -1: "negative", 0: "about zero", None: "-"}[sign]


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and the quantities behind them that no claim is about."""
    values = {(bed, short.replace("_", " ")): CLAIMS[short].effect(frames, bed) for short, bed in claimed()}
    for bed in frames.beds:
        for quantity in ("accuracy", "loss", "log_loss"):
            of_bed = shares(frames, bed, quantity)
            values |= {(bed, f"share of {quantity.replace('_', ' ')}: {phase}"): of_bed[phase] for phase in PHASES}
        ratio = log(line(frames, bed, "decay", "curvature")) - log(line(frames, bed, "stay", "curvature"))
        values[bed, "ln curvature along the displacement: decay over stay"] = ratio
    return [evidence.finding(ROW, bed, what, one, NOTEBOOK, "prose") for (bed, what), one in values.items()]
