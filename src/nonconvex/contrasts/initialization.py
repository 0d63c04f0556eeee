"""From the records of the study of initialization to its claims' effects, gates and findings. No torch.

Frames hold the records of `observations.initialization` and `observations.tuning` by file name. Losses of a bad
initialisation are those of the best of two bad gains in each seed, which favours bad initialisation. Slopes are per
hidden layer of ln of a mean square, in the direction in which the signal runs.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, MODEL = "initialization", "factor_initialization", "mlp"
EXTREMES, NEAREST = ("tiny", "huge"), ("small", "large")
VANISHING, EXPLODING = ("tiny", "small"), ("large", "huge")
BACK = {"backward", "typical_backward"}  # signals that run from the last layer to the first
Frames = Mapping[str, pd.DataFrame]
COMPARED: dict[str, tuple[str, tuple[str, ...], str]] = {  # claim -> family, bad gains, good gain; at tuned rates
    "deep_loss": ("deep", EXTREMES, "he"),
    "near_loss": ("deep", NEAREST, "he"),
    "he_over_xavier": ("deep", ("xavier",), "he"),
    "xavier_loss": ("deep", EXTREMES, "xavier"),
    "xavier_tanh": ("tanh", EXTREMES, "xavier"),
    "shallow_loss": ("shallow", EXTREMES, "he"),
}
LESS: dict[str, str] = {"norm_moderates": "normalised", "depth_moderates": "shallow"}  # claim -> where it costs less


# Training loss


def losses(frames: Frames, phase: str = "tuned") -> pd.DataFrame:
    """Training loss at the end by seed (rows) and arm; infinite where the run diverged."""
    runs = frames["runs"][frames["runs"].phase == phase]
    values = runs.assign(loss=runs.train_loss.where(runs.diverged_step.isna(), np.inf))
    return values.pivot(index="seed", columns="arm", values="loss")


def cost(frames: Frames, family: str, bad: tuple[str, ...], good: str, phase: str = "tuned") -> pd.Series:
    """By seed: the lowest loss of the bad gains minus that of the good one, at its tuned rate. NaN if not finite."""
    best = losses(frames, phase)[[f"{family}_{gain}" for gain in bad]].min(axis=1, skipna=False)
    return finite(best - losses(frames)[f"{family}_{good}"])


def moderated(frames: Frames, family: str) -> pd.Series:
    """By seed: what the extreme gains cost in the deep plain network, beyond what they cost in `family`."""
    return cost(frames, "deep", EXTREMES, "he") - cost(frames, family, EXTREMES, "he")


def fixed(frames: Frames) -> pd.Series:
    """By seed: what the extreme gains cost in the shallow network at the rate that was tuned for He's gain."""
    return cost(frames, "shallow", EXTREMES, "he", "fixed")


def twins(frames: Frames, family: str) -> pd.Series:
    """By seed: loss of the family's good gain with other seeds minus its loss, both at its tuned rate."""
    good = f"{family}_{'xavier' if family == 'tanh' else 'he'}"
    return finite((losses(frames, "twin")[good] - losses(frames)[good]).dropna())


def finite(values: pd.Series) -> pd.Series:
    return values.where(np.isfinite(values))


# Signals through untrained networks


def slope(frames: Frames, arm: str, signal: str) -> pd.Series:
    """By seed: change of ln of the mean square per hidden layer, from the first to the last or, backwards, the reverse.

    `signal` is a column of `Signal`.
    """
    layers = by_layer(frames["signals"], arm, signal)
    change = (layers.iloc[:, -1] - layers.iloc[:, 0]) / (layers.shape[1] - 1)
    return -change if signal in BACK else change


def by_layer(frame: pd.DataFrame, arm: str, column: str) -> pd.DataFrame:
    """An arm's numbers by seed (rows) and layer, in order."""
    return frame[frame.arm == arm].pivot(index="seed", columns="layer", values=column).sort_index(axis=1)


def steepest(frames: Frames, arm: str) -> pd.Series:
    """By seed: the larger of the absolute slopes forwards and backwards."""
    return pd.concat([slope(frames, arm, signal).abs() for signal in ("forward", "backward")], axis=1).max(axis=1)


def deviation(frames: Frames, signal: str) -> pd.Series:
    """By seed: the largest absolute difference, over all gains, between the slope and ln(g²/2)."""
    arms = frames["arms"][frames["arms"].family == "deep"].set_index("arm")
    # ln E‖h_{l+1}‖² - ln E‖h_l‖² = ln(g²/2)
    apart = [(slope(frames, arm, signal) - np.log(scale**2 / 2)).abs() for arm, scale in arms.scale.items()]
    return pd.concat(apart, axis=1).max(axis=1)


# Gradients of the networks that are trained, before training


def decay(frames: Frames, gain: str, column: str = "activations") -> pd.Series:
    """By seed: ln of the gradient's norm at the last hidden layer over that at the first; positive where it vanishes.

    For weights the first is the second layer, the first whose matrix is as large as the last one's.
    """
    layers = by_layer(frames["gradients"], f"deep_{gain}", column)
    return layers.iloc[:, -1] - layers.iloc[:, 1 if column == "weights" else 0]


def least(values: list[pd.Series]) -> pd.Series:
    """By seed: the smallest of the values."""
    return pd.concat(values, axis=1).min(axis=1, skipna=False)


def vanishing(frames: Frames, column: str = "activations") -> pd.Series:
    """By seed: the smaller of the two decays under gains below He's."""
    return least([decay(frames, gain, column) for gain in VANISHING])


def exploding(frames: Frames) -> pd.Series:
    """By seed: the smaller of the two growths under gains above He's."""
    return least([-decay(frames, gain) for gain in EXPLODING])


def weight_scale(frames: Frames) -> pd.Series:
    """By seed: ln of the factor between the gradient of the first layer's weights and that under He's gain.

    Of four factors the smallest, each in the direction (smaller, larger) that its gain is expected to take.
    """
    gains = (*VANISHING, "he", *EXPLODING)
    norm = {gain: by_layer(frames["gradients"], f"deep_{gain}", "weights")[1] for gain in gains}
    smaller = [norm["he"] - norm[gain] for gain in VANISHING]
    return least(smaller + [norm[gain] - norm["he"] for gain in EXPLODING])


CLAIMS: dict[str, Callable[[Frames], pd.Series]] = {
    **{name: partial(cost, family=f, bad=bad, good=good) for name, (f, bad, good) in COMPARED.items()},
    **{name: partial(moderated, family=family) for name, family in LESS.items()},
    "shallow_fixed_rate": fixed,
    "he_slopes": partial(steepest, arm="deep_he"),
    "he_forward_slope": partial(slope, arm="deep_he", signal="forward"),
    "he_backward_slope": partial(slope, arm="deep_he", signal="backward"),
    "he_typical_slope": partial(slope, arm="deep_he", signal="typical_forward"),
    "tanh_slopes": partial(steepest, arm="tanh_xavier"),
    "closed_form_forward": partial(deviation, signal="forward"),
    "closed_form_backward": partial(deviation, signal="backward"),
    "vanishing": vanishing,
    "exploding": exploding,
    "he_gradients": partial(decay, gain="he"),
    "xavier_gradients": partial(decay, gain="xavier"),
    "weight_profile": partial(vanishing, column="weights"),
    "weight_scale": weight_scale,
}


def claim(name: str) -> str:
    return f"{ROW}.{name}.{MODEL}"


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast, and that of losses between seeds that differ in nothing else."""
    found = [one for name, values in CLAIMS.items() for one in evidence.effects(claim(name), values(frames))]
    for name, values in controls(frames).items():
        found += evidence.effects(claim(name), values, "same_arm")
    return found


def controls(frames: Frames) -> dict[str, pd.Series]:
    """What the claims on losses find between twins."""
    same = {name: twins(frames, family) for name, (family, *_) in COMPARED.items()}
    same |= {name: twins(frames, "deep") - twins(frames, family) for name, family in LESS.items()}
    return same | {"shallow_fixed_rate": twins(frames, "shallow")}


def gates(frames: Frames) -> list[GateValue]:
    """What is to be said of the tuning behind every claim on losses."""
    arms = {name: [f"{f}_{gain}" for gain in (*bad, good)] for name, (f, bad, good) in COMPARED.items()}
    for name, family in LESS.items():
        arms[name] = [f"{f}_{gain}" for f in ("deep", family) for gain in (*EXTREMES, "he")]
    found = []
    for name, names in arms.items():
        found += evidence.gates(claim(name), tuning.gates(frames["tuned"], names))
    hes = {"rate_interior": tuning.gates(frames["tuned"], ["shallow_he"])["rate_interior"]}
    return found + evidence.gates(claim("shallow_fixed_rate"), hes)


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and of what lies behind them in every arm."""
    numbers = {name: values(frames) for name, values in CLAIMS.items()} | behind(frames)
    return [evidence.finding(ROW, MODEL, name, values, NOTEBOOK, table="factors") for name, values in numbers.items()]


def behind(frames: Frames) -> dict[str, pd.Series]:
    """Numbers by seed that no claim is made of, by name."""
    found = {f"training loss of {arm}": finite(values) for arm, values in losses(frames).items()}
    fixed_losses = losses(frames, "fixed")
    found |= {f"training loss of {arm} at He's rate": finite(values) for arm, values in fixed_losses.items()}
    runs = frames["runs"][frames["runs"].phase == "tuned"]
    found |= {f"ln initial loss of {arm}": np.log(of.initial_loss) for arm, of in runs.groupby("arm")}
    found["middle_loss"] = cost(frames, "middle", EXTREMES, "he")
    found["normalised_loss"] = cost(frames, "normalised", EXTREMES, "he")
    for arm in frames["signals"].arm.unique():
        for signal in ("forward", "backward", "typical_forward", "typical_backward"):
            found[f"{signal} slope of {arm}"] = slope(frames, arm, signal)
    for gain in (arm.removeprefix("deep_") for arm in frames["gradients"].arm.unique()):
        found[f"ln gradient ratio, last to first layer, of {gain}"] = decay(frames, gain)
        found[f"ln weight gradient ratio, last to second layer, of {gain}"] = decay(frames, gain, "weights")
    curvature = frames["curvature"]
    return found | {f"ln λmax at the start of {arm}": np.log(of.lambda_max) for arm, of in curvature.groupby("arm")}
