"""What the study of noise scale says about its claims. No torch.

Both beds fill the same grid, ratio of rate and batch size by batch size, so that one function reads either. A diverged
run counts with the loss of a guess.
"""

from dataclasses import dataclass, fields
from math import log
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.config import Settings
from nonconvex.contrasts import evidence
from nonconvex.observations import noise_scale as rows
from nonconvex.paths import Results
from nonconvex.records import Effect, Finding, GateValue
from nonconvex.study_settings.noise_scale import Grid, NoiseScale

ROW = NOTEBOOK = "noise_scale"
BEDS = ("quadratic", "mlp")
GUESS = log(10)  # nats, the loss of a guess among ten classes
AGREES = log(1.1)  # up to here a diagonal still agrees with its smallest batch
TYPES = (rows.Stationary, rows.Cell, rows.Sharpness, rows.SimpleScale, rows.BatchNoise)


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record, and the settings that say which rates are small."""

    stationary: pd.DataFrame
    cells: pd.DataFrame
    sharpness: pd.DataFrame
    scales: pd.DataFrame
    noise: pd.DataFrame
    how: NoiseScale

    @classmethod
    def read(cls, files: Results, settings: Settings) -> Self:
        """The study's records as it wrote them."""
        names = [field.name for field in fields(cls)]
        parts = [records.read(files.observations(ROW, n), kind) for n, kind in zip(names, TYPES, strict=False)]
        return cls(*parts, settings.rates.noise_scale)

    def grid(self, bed: str) -> Grid:
        return self.how.mlp if bed == "mlp" else self.how.quadratic.grid


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect, one per seed, and the contrast of twins beside those of the network."""
    found = []
    for claim, values in claimed(frames).items():
        found += evidence.effects(f"{ROW}.{claim}", values)
    for claim in ("ratio_matters.mlp", "noise_rate.mlp", "noise_batch.mlp"):
        found += evidence.effects(f"{ROW}.{claim}", twins(frames), "same_arm")
    return found


def claimed(frames: Frames) -> dict[str, pd.Series]:
    """Claim (without its row) -> effect by seed."""
    found = {
        "stationary.quadratic": off_closed_form(frames, 0),
        "stationary_momentum.quadratic": off_closed_form(frames, frames.how.quadratic.momentum),
        "recursion.quadratic": recursion_error(frames, 0),
        "recursion_momentum.quadratic": recursion_error(frames, frames.how.quadratic.momentum),
        "rate_small.quadratic": exponent(small_rates(frames), "rate") - 1,
        "rate_whole.quadratic": exponent(plain(frames), "rate") - 1,
        "batch.quadratic": exponent(plain(frames), "batch_size") + 1,
        "momentum.quadratic": momentum_of_quadratic(frames),
        "gradient_noise.mlp": slope(frames.noise, "batch_size", "variance") + 1,
        "ratio_matters.mlp": ratio_matters(frames),
        "momentum.mlp": momentum_of_network(frames),
        "error_small.mlp": same_ratio(errors(frames), frames.grid("mlp"), small=True),
        "error_whole.mlp": same_ratio(errors(frames), frames.grid("mlp"), small=False),
        "sharpness_small.mlp": same_sharpness(frames, small=True),
        "sharpness_whole.mlp": same_sharpness(frames, small=False),
    }
    for bed in BEDS:
        logs, grid = losses(frames, bed), frames.grid(bed)
        found[f"noise_rate.{bed}"] = noise_of_rate(frames, bed)
        found[f"noise_batch.{bed}"] = noise_of_batch(frames, bed)
        for name, small in (("small", True), ("whole", False)):
            found[f"same_ratio_{name}.{bed}"] = same_ratio(logs, grid, small)
            found[f"exponents_{name}.{bed}"] = exponents(logs, grid, small).sum(axis=1, skipna=False)
    return found


def plain(frames: Frames) -> pd.DataFrame:
    """The scalar quadratic without momentum."""
    return frames.stationary[frames.stationary.momentum == 0]


def small_rates(frames: Frames) -> pd.DataFrame:
    """The same where the rate times the curvature is small."""
    of = plain(frames)
    return of[of.rate * of.curvature <= frames.how.quadratic.small_rate * (1 + 1e-6)]


def off_closed_form(frames: Frames, momentum: float) -> pd.Series:
    """max over rates and batch sizes of |ln(simulated / closed form)| by seed."""
    of = frames.stationary[frames.stationary.momentum == momentum]
    return np.log(of.simulated / of.limit).abs().groupby(of.seed).max()


def recursion_error(frames: Frames, momentum: float) -> pd.Series:
    """max over rates and batch sizes of |exact recursion / closed form - 1| by seed."""
    of = frames.stationary[frames.stationary.momentum == momentum]
    return of.groupby("seed").deviation.max()


def exponent(of: pd.DataFrame, column: str) -> pd.Series:
    """b of ln(simulated) = a + b ln(column) + the other of rate and batch size, each of its values on its own."""
    other = ({"rate", "batch_size"} - {column}).pop()
    centred = of.assign(simulated=np.log(of.simulated), x=np.log(of[column]))
    groups = centred.groupby(["seed", other])
    x, y = (centred[name] - groups[name].transform("mean") for name in ("x", "simulated"))
    return (x * y).groupby(of.seed).sum() / (x * x).groupby(of.seed).sum()


def slope(of: pd.DataFrame, x: str, y: str) -> pd.Series:
    """b of ln y = a + b ln x by seed."""
    return pd.Series(
        {seed: np.polyfit(np.log(g[x]), np.log(g[y]), 1)[0] for seed, g in of.groupby("seed")}, dtype=float
    )


def momentum_of_quadratic(frames: Frames) -> pd.Series:
    """ln of simulated noise with momentum at the equal rate over that without, mean over small rates, by seed."""
    of = frames.stationary.assign(log=np.log(frames.stationary.simulated))
    of = of.assign(equal=(of.rate * of.curvature / (1 - of.momentum)).round(6))
    of = of[of.equal <= frames.how.quadratic.small_rate * (1 + 1e-6)]
    sides = of.pivot(index=["seed", "equal", "batch_size"], columns="momentum", values="log")
    return (sides[frames.how.quadratic.momentum] - sides[0]).groupby("seed").mean()


def losses(frames: Frames, bed: str, arm: str = "plain", epochs: float | None = None) -> pd.DataFrame:
    """ln loss by seed, columns (ratio, batch size), after `epochs` (the last by default)."""
    of = frames.cells[(frames.cells.bed == bed) & (frames.cells.arm == arm)]
    of = of[of.epochs == (of.epochs.max() if epochs is None else epochs)]
    loss = of.loss.where(of.diverged_step.isna(), GUESS)
    table = of.assign(log=np.log(loss)).pivot(index="seed", columns=["ratio", "batch_size"], values="log")
    return table.sort_index(axis=1)


def errors(frames: Frames) -> pd.DataFrame:
    """Test error of the network by seed, columns (ratio, batch size); a diverged run errs as a guess."""
    of = frames.cells[(frames.cells.bed == "mlp") & (frames.cells.arm == "plain")]
    of = of[of.epochs == of.epochs.max()]
    error = of.test_error.where(of.diverged_step.isna(), 0.9)
    return (
        of.assign(error=error).pivot(index="seed", columns=["ratio", "batch_size"], values="error").sort_index(axis=1)
    )


def is_small(grid: Grid, ratio: float, size: int) -> bool:
    """Whether this cell's rate is one at which only the ratio is expected to matter."""
    return ratio * size <= grid.small_rate * (1 + 1e-9)


def same_ratio(table: pd.DataFrame, grid: Grid, small: bool) -> pd.Series:
    """The largest batch size minus the smallest at equal ratio, mean over ratios, by seed; `small`: of a small rate."""
    parts = []
    for ratio in grid.ratios:
        sizes = [size for size in grid.batch_sizes if not small or is_small(grid, ratio, size)]
        parts.append(table[ratio, sizes[-1]] - table[ratio, sizes[0]])
    return sum(parts) / len(parts)


def exponents(logs: pd.DataFrame, grid: Grid, small: bool) -> pd.DataFrame:
    """a and b of ln L = a ln η + b ln B + c + q ln²(η/B) by seed, least squares over the cells."""
    kept = [(ratio, size) for ratio, size in logs.columns if not small or is_small(grid, ratio, size)]
    ratio, size = np.log(np.array(kept, float)).T
    ratio = ratio - ratio.mean()
    # ln η = ln(η / B) + ln B
    design = np.stack([ratio + size, size, np.ones(len(kept)), ratio**2], axis=1)
    found = np.linalg.lstsq(design, logs[kept].to_numpy().T, rcond=None)[0]
    return pd.DataFrame(found[:2].T, logs.index, ["a", "b"])


def ratio_matters(frames: Frames) -> pd.Series:
    """ln loss of the lowest ratio minus that of the highest at equal epochs, mean over batch sizes of small rates."""
    logs, grid = losses(frames, "mlp"), frames.grid("mlp")
    low, high = grid.ratios[0], grid.ratios[-1]
    parts = [logs[low, size] - logs[high, size] for size in grid.batch_sizes if is_small(grid, high, size)]
    return sum(parts) / len(parts)


def equal_progress(frames: Frames, bed: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ln loss of (the highest ratio at its first reading, the lowest at its last): rate times steps is the same."""
    first = frames.cells[frames.cells.bed == bed].epochs.min()
    return losses(frames, bed, epochs=first), losses(frames, bed)


def noise_of_rate(frames: Frames, bed: str) -> pd.Series:
    """ln loss at a high minus that at a low rate, same batch size, equal rate times steps, small rates, by seed."""
    (early, late), grid = equal_progress(frames, bed), frames.grid(bed)
    low, high = grid.ratios[0], grid.ratios[-1]
    parts = [early[high, size] - late[low, size] for size in grid.batch_sizes if is_small(grid, high, size)]
    return sum(parts) / len(parts)


def noise_of_batch(frames: Frames, bed: str) -> pd.Series:
    """ln loss at a small minus that at a large batch size, the same rate and steps, small rates, by seed."""
    (early, late), grid = equal_progress(frames, bed), frames.grid(bed)
    low, high = grid.ratios[0], grid.ratios[-1]
    factor = round(high / low)
    parts = [
        early[high, size] - late[low, factor * size]
        for size in grid.batch_sizes
        if is_small(grid, high, size) and factor * size in grid.batch_sizes
    ]
    return sum(parts) / len(parts) if parts else pd.Series(np.nan, early.index)


def momentum_of_network(frames: Frames) -> pd.Series:
    """ln loss with momentum at the equal rate minus that without, mean over ratios, at the control's batch size."""
    logs, other, size = losses(frames, "mlp"), losses(frames, "mlp", "momentum"), frames.how.mlp.control
    return sum(other[ratio, size] - logs[ratio, size] for ratio in frames.how.mlp.ratios) / len(frames.how.mlp.ratios)


def twins(frames: Frames) -> pd.Series:
    """ln loss of a run minus that of its twin, which differs in its seed only."""
    twin = losses(frames, "mlp", "twin")
    (cell,) = twin.columns
    return losses(frames, "mlp")[cell] - twin[cell]


def same_sharpness(frames: Frames, small: bool) -> pd.Series:
    """ln λ_max of a larger batch size minus that of the smallest, at one ratio, by seed."""
    table = np.log(frames.sharpness.pivot(index="seed", columns="batch_size", values="sharpness"))
    sizes = sorted(table.columns)
    ratio = frames.sharpness.ratio.iloc[0]
    if small:
        sizes = [size for size in sizes if is_small(frames.grid("mlp"), ratio, size)]
    return table[sizes[-1]] - table[sizes[0]]


def break_batch(frames: Frames, bed: str, ratio: float) -> float:
    """The largest batch size up to which the mean loss of a ratio stays within 10 % of that of its smallest."""
    means = losses(frames, bed).mean()[ratio].sort_index()
    within = (means - means.iloc[0]).abs() <= AGREES
    return float(means.index[within.cummin()].max())


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    found = []
    for claim in claimed(frames):
        found += evidence.gates(f"{ROW}.{claim}", gate_values(frames, *claim.split(".")))
    return found


def gate_values(frames: Frames, short: str, bed: str) -> dict[str, float]:
    """The gates of one claim."""
    if bed == "quadratic" or short == "gradient_noise":
        return {}
    values = {} if short.endswith("whole") else {"noise_finished": finished(frames)}
    if short.startswith("sharpness"):
        return values | {"residual": frames.sharpness.residual.max()}
    if short in ("ratio_matters", "noise_rate", "noise_batch"):
        return values
    return values | {"noise_responds": float(ratio_matters(frames).mean())}


def finished(frames: Frames) -> float:
    """Share of the network's runs at small rates, with and without momentum, that did not diverge."""
    grid = frames.grid("mlp")
    of = frames.cells[(frames.cells.bed == "mlp") & (frames.cells.rate <= grid.small_rate * (1 + 1e-9))]
    of = of[of.epochs == of.epochs.max()]
    return float(of.diverged_step.isna().mean())


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, where each diagonal breaks, the fitted exponents, and B_simple."""
    found = [_finding(claim.split(".")[1], claim, values) for claim, values in claimed(frames).items()]
    for bed in BEDS:
        grid = frames.grid(bed)
        for ratio in grid.ratios:
            value = pd.Series([break_batch(frames, bed, ratio)])
            found.append(_finding(bed, f"largest batch within 10 % of the smallest, ratio {ratio:g}", value))
            sizes = grid.batch_sizes
            logs = losses(frames, bed)
            gap = logs[ratio, sizes[-1]] - logs[ratio, sizes[0]]
            found.append(_finding(bed, f"ln loss, batch {sizes[-1]} minus {sizes[0]}, ratio {ratio:g}", gap))
        for name, small in (("small rates", True), ("whole range", False)):
            for column, values in exponents(losses(frames, bed), grid, small).items():
                found.append(_finding(bed, f"exponent {column}, {name}", values))
    for (ratio, epochs), of in frames.scales.groupby(["ratio", "epochs"]):
        found.append(_finding("mlp", f"B_simple, ratio {ratio:g}, epoch {epochs:g}", of.simple.astype(float)))
    return found


def _finding(model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, quantity, values, NOTEBOOK, table="prose")
