"""Every contrast of progressive sharpening on planted records with closed forms, and the study's arms against one
another."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex import config
from nonconvex.contrasts import progressive_sharpening as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.observations.progressive_sharpening import FlowPoint, FlowRun, SgdPoint
from nonconvex.studies import progressive_sharpening as study
from nonconvex.study_settings.base import Lanczos
from nonconvex.study_settings.properties import Decay, Flow

SMOKE = FOLDER.parent / "profiles" / "smoke" / "params.yaml"
SEEDS, STEPS = range(3), np.arange(0, 101, 5)


def run(sharpness, train_loss=None, train_error=None) -> pd.DataFrame:
    """A run with readings at evenly spaced steps up to 100."""
    count = len(sharpness)
    filled = [np.linspace(1, 0.1, count) if column is None else column for column in (train_loss, train_error)]
    columns = {"step": np.linspace(0, 100, count), "sharpness": sharpness}
    return pd.DataFrame({**columns, "train_loss": filled[0], "train_error": filled[1]})


def test_rises_are_logs_of_factors_over_the_smallest_early_value():
    """Readings at 0, 5, 10, ...: 2 and 1 are early (the first 5 %), the 0.5 at step 10 is not."""
    values = np.array([2, 1, 0.5, *np.full(17, 4.0), 8])
    error = np.where(np.arange(21) < 12, 0.5, 0.0)
    assert contrasts.rise_to_end(run(values)) == pytest.approx(np.log(8))
    assert contrasts.rise_to_fit(run(values, train_error=error)) == pytest.approx(np.log(4))
    assert np.isnan(contrasts.rise_to_fit(run(values, train_error=np.full(21, 0.02))))
    assert contrasts.peak(run(values[::-1])) == pytest.approx(np.log(4))  # the 8 is early now


def test_a_diverged_run_has_no_rise():
    values = np.r_[1.0, np.full(9, 2.0), np.nan]
    assert np.isnan(contrasts.rise_to_end(run(values))) and np.isnan(contrasts.peak(run(values)))


def test_between_readings_the_curvature_is_interpolated_by_logs():
    """On λ = 3 l^-2 interpolation by the logs of both is exact, whatever the readings."""
    losses = np.array([2.0, 1.1, 0.7, 0.2, 0.05])
    a = run(3 * losses**-2, losses)
    for level in (2.0, 1.0, 0.3, 0.05):
        assert contrasts.at_loss(a, level) == pytest.approx(np.log(3 * level**-2))
    assert np.isnan(contrasts.at_loss(a, 0.04))


def test_matched_runs_are_compared_at_the_lowest_loss_that_both_reach():
    """One run goes further and is sharper there: at the same loss it is twice as flat."""
    far, near = np.geomspace(2, 0.01, 7), np.geomspace(2, 0.3, 5)
    assert contrasts.matched(run(far**-1, far), run(2 * near**-1, near)) == pytest.approx(-np.log(2))
    assert contrasts.matched(run(near**-1, near), run(far**-1, far)) == pytest.approx(0)


def test_parted_runs_begin_at_the_last_reading_that_they_share():
    kept, dropped = run(np.ones(5), [5, 4, 3, 2, 1]), run(np.ones(5), [5, 4, 3, 2.5, 2.2])
    assert contrasts.parted({0: dropped}, {0: kept})[0].train_loss.tolist() == [3, 2.5, 2.2]
    assert contrasts.parted({0: kept}, {0: dropped})[0].train_loss.tolist() == [3, 2, 1]
    assert len(contrasts.parted({0: kept}, {0: kept})[0]) == 1 and contrasts.parted({0: kept}, {}) == {}


def grown(end: float, times: np.ndarray = STEPS) -> np.ndarray:
    """λ_max that grows by the factor `end` over the run, exponentially."""
    return end ** (times / 100)


ENDS = {"constant": 4.0, "jostled": 4.4, "cosine": 9.0, "dropped": 6.0}
TEST_ERRORS = {
    "squared_error": {"constant": 0.5, "jostled": 0.51, "cosine": 0.45, "shuffled": 0.9, "shuffled_cosine": 0.88},
    "cross_entropy": {"constant": 0.4, "jostled": 0.4, "cosine": 0.39, "shuffled": 0.9, "shuffled_cosine": 0.9},
}


def planted() -> dict[str, pd.DataFrame]:
    """Factors 16 (squared error) and 1/16 (cross-entropy) at the small rate, ENDS at the large one."""
    points, runs = [], []
    for loss, seed in product(contrasts.LOSSES, SEEDS):
        arms = [(0.05, "constant", 16.0 if loss == "squared_error" else 1 / 16)]
        arms += [(0.45, arm, end if loss == "squared_error" else 1 / end) for arm, end in ENDS.items()]
        for share, arm, end in arms:
            error = np.where(STEPS < 50, 0.5, 0.0)
            cells = zip(STEPS, grown(end), np.geomspace(1, 0.01, len(STEPS)), error, strict=True)
            points += [FlowPoint(loss, share, arm, seed, int(t), s, 0.01, x, e) for t, s, x, e in cells]
        for arm, score in TEST_ERRORS[loss].items():
            runs.append(FlowRun(loss, 0.45, arm, seed, 0.2, 100, None, 0.01, 0.0, 2 * score, score))
        runs.append(FlowRun(loss, 0.05, "constant", seed, 0.02, 100, None, 0.01, 0.0, 1.0, 0.5))
    sgd = []
    for (rate, size, order), end in {(0.1, 32, 0): 8, (0.5, 32, 0): 2, (0.5, 32, 1): 2.2, (0.5, 128, 0): 3}.items():
        cells = [(seed, t, s) for seed in SEEDS for t, s in zip(STEPS, grown(end), strict=True)]
        sgd += [SgdPoint("resnet", rate, size, order, seed, int(t), s, 0.01, 2 - t / 100, 0.1) for seed, t, s in cells]
    return {name: pd.DataFrame(rows) for name, rows in (("runs", runs), ("points", points), ("sgd", sgd))}


@pytest.fixture(scope="module")
def found():
    frame = pd.DataFrame(contrasts.effects(planted()))
    return {key: list(rows.value) for key, rows in frame.groupby(["claim", "role"])}


@pytest.mark.parametrize(
    ("claim", "role", "expected"),
    [
        ("rise.squared_error", "claim", np.log(16) / 2),
        ("rise.cross_entropy", "claim", -np.log(16) * (0.5 - 0.05)),
        ("end.squared_error", "claim", np.log(16)),
        ("end.cross_entropy", "claim", -np.log(16) * 0.95),
        ("end_large.squared_error", "claim", np.log(4)),
        ("drop.squared_error", "claim", np.log(6 / 4)),
        ("drop.squared_error", "same_arm", np.log(4.4 / 4)),
        ("drop.cross_entropy", "claim", -np.log(6 / 4)),
        ("rise.resnet", "claim", np.log(8)),
        ("rate.resnet", "claim", np.log(8 / 2)),
        ("rate.resnet", "same_arm", np.log(2.2 / 2)),
        ("rate_matched.resnet", "claim", np.log(8 / 2)),
        ("batch.resnet", "claim", np.log(3 / 2)),
        ("batch_matched.resnet", "claim", np.log(3 / 2)),
        ("benefit_error", "claim", -0.05 + 0.01),
        ("benefit_error", "same_arm", 0.01),
        ("benefit_error", "shuffled_labels", -0.02),
        ("benefit_loss", "claim", np.log(0.45 / 0.5) - np.log(0.39 / 0.4)),
        ("decay_error.squared_error", "claim", -0.05),
        ("decay_error.cross_entropy", "claim", -0.01),
        ("decay_error.squared_error", "shuffled_labels", -0.02),
    ],
)
def test_every_contrast_finds_what_was_planted_with_its_sign(found, claim, role, expected):
    assert found[f"progressive_sharpening.{claim}", role] == pytest.approx([expected] * 3)


def test_gates_say_what_they_measured():
    frames = planted()
    frames["points"].loc[(frames["points"].seed == 0) & (frames["points"].share == 0.05), "train_error"] = 0.3
    gates = pd.DataFrame(contrasts.gates(frames)).set_index(["claim", "gate"]).value
    gates.index = gates.index.map(lambda key: (key[0].removeprefix("progressive_sharpening."), key[1]))
    assert gates["rise.squared_error", "fitted"] == pytest.approx(2 / 3)
    assert gates["rise.squared_error", "edge_free"] == pytest.approx(16 * 0.02 / 2)
    assert gates["benefit_error", "sharpening_contrast"] == 1
    for claim in ("drop_matched.squared_error", "rate_matched.resnet"):
        assert gates[claim, "matched_pairs"] == 1
    assert gates["end.cross_entropy", "residual"] == pytest.approx(0.01)


def test_a_diverged_replicate_is_left_out_everywhere():
    frames = planted()
    points, runs, sgd = (frames[name] for name in ("points", "runs", "sgd"))
    points.loc[(points.seed == 1) & (points.step > 60), ["sharpness", "train_loss", "train_error"]] = np.nan
    runs.loc[runs.seed == 1, ["test_loss", "test_error"]] = np.nan
    sgd.loc[(sgd.seed == 1) & (sgd.step > 60), ["sharpness", "train_loss"]] = np.nan
    frame = pd.DataFrame(contrasts.effects(frames))
    left = frame[frame.replicate == 1].claim.str.removeprefix("progressive_sharpening.")
    assert set(left) == {"rise.squared_error", "rise.cross_entropy"}  # learned before it diverged


# The study itself


@pytest.fixture(scope="module")
def settings():
    whole = config.read(SMOKE)
    flows = {"squared_error": (Flow(share=0.05, steps=20),)}
    decays = {"squared_error": Decay(share=0.45, steps=20, readings=11, jostle=0.1)}
    changes = {"flows": flows, "decays": decays, "seeds": (500, 501), "lanczos": Lanczos(tolerance=1e-3)}
    mine = whole.properties.progressive_sharpening.model_copy(update=changes)
    properties = whole.properties.model_copy(update={"progressive_sharpening": mine})
    return whole.model_copy(update={"properties": properties})


@pytest.fixture(scope="module")
def decayed(settings):
    runs, points = study.decays(settings, "squared_error")
    return pd.DataFrame(runs), pd.DataFrame(points)


def test_every_seed_has_its_own_peak_at_the_share_of_its_own_threshold(settings, decayed):
    runs, points = decayed
    start = points[(points.step == 0) & (points.arm == "constant")].set_index("seed").sharpness
    rates = runs[runs.arm == "constant"].set_index("seed").rate
    assert rates.to_dict() == pytest.approx((0.45 * 2 / start).to_dict(), rel=1e-3) and rates.nunique() == 2


def test_the_rate_is_dropped_at_half_of_the_run_and_not_before(decayed):
    losses = decayed[1][decayed[1].seed == 500].pivot(index="step", columns="arm", values="train_loss")
    assert (losses.dropped.loc[:10] == losses.constant.loc[:10]).all() and losses.dropped[12] != losses.constant[12]
    assert (losses.cosine.loc[4:] != losses.constant.loc[4:]).all() and losses.jostled[0] != losses.constant[0]
    step = losses.diff().abs()
    assert step.dropped[12] < 0.5 * step.constant[12]  # a quarter of the rate moves less


def test_the_control_has_other_labels_and_the_same_images(decayed):
    runs, points = decayed
    start = points[points.step == 0].pivot(index="seed", columns="arm", values="train_loss")
    assert (start.shuffled == start.shuffled_cosine).all() and (start.shuffled != start.constant).any()
    assert set(runs.arm) == {"constant", "jostled", "cosine", "dropped", "shuffled", "shuffled_cosine"}
    assert sorted(set(points.step[points.arm == "shuffled"])) == [0, 20]


def test_arms_of_minibatch_runs_start_alike_and_differ_in_one_thing_each(settings):
    arms = study.sgd_arms(settings.properties.progressive_sharpening.sgd["resnet"])
    table = pd.DataFrame([point for arm in arms for point in study.minibatch(settings, "resnet", arm)])
    table = table.pivot(index=["seed", "step"], columns=["rate", "batch_size", "order"], values="train_loss")
    assert set(table.columns) == {(0.1, 16, 0), (0.5, 16, 0), (0.5, 16, 1), (0.5, 32, 0)}
    start, end = table.xs(0, level="step"), table.xs(6, level="step")
    assert (start.nunique(axis=1) == 1).all() and (end.nunique(axis=1) == 4).all()
    assert torch.get_num_threads() == 1
