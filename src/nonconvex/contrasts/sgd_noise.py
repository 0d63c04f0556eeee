"""What the study of gradient noise says about the text's row: every claim's numbers by seed, its controls, its gates.

No torch.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.contrasts.escapes import (
    Frames,
    barrier,
    by_seed,
    escape_times,
    gained,
    lambda_fall,
    left_exactly,
    matched_loss,
    saddle_gates,
    scratch_accuracy,
    scratch_gates,
    scratch_twins,
    sharp_gates,
    speedup,
    theory,
)
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, MODEL = "sgd_noise", "factor_sgd_noise", "mlp"
LINEAR = "linear network"  # the model that findings about saddles name
KINDS = ("active", "idle")
LOSSES = ("cross_entropy", "squared_error")
FASTER = {  # claim -> arm whose escape is held against gradient descent's
    "saddle_sgd": "sgd",
    "saddle_isotropic": "isotropic",
    "saddle_isotropic_modes": "isotropic_modes",
    "saddle_isotropic_directions": "isotropic_directions",
}
PROJECTED = {  # the same where minibatch noise has anything to take out
    "saddle_sgd_modes": "sgd_modes",
    "saddle_sgd_directions": "sgd_directions",
}
LOWER = {"sharp_lambda": "small", "sharp_lambda_large": "large", "sharp_lambda_noise": "noise"}
CONTINUED = {  # claim -> the two arms whose accuracy differs
    "continued_accuracy": ("small", "full"),
    "continued_accuracy_old": ("small", "full_old"),
    "continued_accuracy_noise": ("noise", "full"),
}
SCRATCH = {
    "scratch_accuracy": ("small", "full"),
    "scratch_accuracy_noise": ("noise", "full"),
    "scratch_accuracy_direction": ("small", "noise"),
}


@dataclass(frozen=True)
class Contrast:
    """A claim's numbers by seed, those of its controls by role, and its gates."""

    claim: str
    model: str
    values: pd.Series
    gates: Mapping[str, float]
    controls: Mapping[str, pd.Series]


def contrasts(frames: Frames) -> Iterator[Contrast]:
    """Every claim of the row."""
    for kind in KINDS:
        yield from about_saddles(frames, kind)
    for loss in LOSSES:
        if loss in set(frames.continued.loss):
            yield from about_sharpness(frames, loss)
    yield from about_accuracy(frames)


def about_saddles(frames: Frames, kind: str) -> Iterator[Contrast]:
    gates = saddle_gates(frames, kind)
    arms = FASTER | (PROJECTED if kind == "active" else {})
    named: Callable = lambda name, values: Contrast(f"{ROW}.{name}.{kind}", LINEAR, values, gates, {})  # noqa: E731
    yield from (named(claim, speedup(frames, kind, arm)) for claim, arm in arms.items())
    yield named("saddle_exact", left_exactly(frames, kind))
    yield named("saddle_theory", theory(frames, kind))
    yield named("saddle_theory_projected", theory(frames, kind, "expected_projected"))


def about_sharpness(frames: Frames, loss: str) -> Iterator[Contrast]:
    def of(name: str, values: pd.Series, gates: Mapping[str, float], twin: pd.Series) -> Contrast:
        return Contrast(f"{ROW}.{name}.{loss}", MODEL, values, gates, {"same_arm": twin})

    for name, arm in LOWER.items():
        for place, suffix in (("level", "_matched"), ("end", "")):
            gates = sharp_gates(frames, loss, place, (arm, "full"))
            if place == "level":
                gates |= {"matched_loss": matched_loss(frames, loss, arm)}
            twin = lambda_fall(frames, loss, place, "small", "small_twin")
            yield of(name + suffix, lambda_fall(frames, loss, place, arm), gates, twin)
    gates, own = sharp_gates(frames, loss), barrier(frames, loss)
    twin = own - barrier(frames, loss, "small_twin")
    yield Contrast(f"{ROW}.sharp_barrier.{loss}", MODEL, own, gates, {})
    yield of("sharp_barrier_noise", own - barrier(frames, loss, "full"), gates, twin)


def about_accuracy(frames: Frames) -> Iterator[Contrast]:
    loss = LOSSES[0]
    if loss in set(frames.continued.loss):
        twin = gained(frames, loss, "small", "small_twin")
        sharp = sharp_gates(frames, loss)
        for name, arms in CONTINUED.items():
            controls = {"same_arm": twin, "shuffled_labels": gained(frames, loss, *arms, "shuffled")}
            yield Contrast(f"{ROW}.{name}.{loss}", MODEL, gained(frames, loss, *arms), sharp, controls)
    for name, arms in SCRATCH.items():
        shuffled = scratch_accuracy(frames, *arms, "shuffled")
        controls = {"same_arm": scratch_twins(frames), "shuffled_labels": shuffled}
        values = scratch_accuracy(frames, *arms)
        yield Contrast(f"{ROW}.{name}.{loss}", MODEL, values, scratch_gates(frames, arms), controls)


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


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every claim's numbers, and of what arms came to."""
    told = lambda model, quantity, values: evidence.finding(ROW, model, quantity, values, NOTEBOOK, "factors")  # noqa: E731
    found = [told(one.model, one.claim.removeprefix(f"{ROW}."), one.values) for one in contrasts(frames)]
    for loss in dict.fromkeys(frames.continued.loss):
        for place in ("level", "end"):
            alone = lambda_fall(frames, loss, place, "full", "full_old")
            found.append(told(MODEL, f"ln λ_max, old rate minus new rate, full batches, {loss}, {place}", alone))
    for kind in KINDS:
        for arm, values in escape_times(frames, kind).items():
            of = frames.saddles.set_index(["seed", "saddle"]).expected
            found.append(told(LINEAR, f"escape time of {arm} over theory, {kind}", by_seed((values / of).dropna())))
    for (loss, labels, place, arm), of in frames.continued.groupby(["loss", "labels", "at", "arm"]):
        for column in ("sharpness", "train_loss", "test_error", "barrier"):
            if of[column].notna().any():
                found.append(told(MODEL, f"{column} of {arm}, {loss}, {labels}, {place}", of[column].astype(float)))
    for (arm, labels, draw), of in frames.scratch.groupby(["arm", "labels", "draw"]):
        found.append(told(MODEL, f"test error from scratch of {arm}, {labels}, {draw}", of.test_error.astype(float)))
    return found
