"""AutoNEB on potentials solved by hand, the study's pairs and records, and its contrasts on planted heights."""

import dataclasses
import itertools
from math import cos, log, pi, sin, sqrt, tan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex import config
from nonconvex.contrasts import mode_connectivity as contrasts
from nonconvex.drawings import mode_connectivity as drawings
from nonconvex.measure.autoneb import Plan, Polyline, across, refined, spaced, tangents, train_band
from nonconvex.measure.barriers import Profile
from nonconvex.observations.mode_connectivity import Along, Endpoint, Height
from nonconvex.schedules import cosine
from nonconvex.studies import mode_connectivity as study
from nonconvex.study_settings.properties import Band, Connected, ModeConnectivity

SMOKE = Path(__file__).resolve().parents[1] / "profiles" / "smoke" / "params.yaml"


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def horseshoe(points):
    """V = 5 (r - 1)^2 + sin(angle)^2 of points (..., 2): a valley along the unit circle, with its pass at (0, 1)."""
    x, y = points.unbind(-1)
    r = (x * x + y * y).sqrt()
    return 5 * (r - 1) ** 2 + (y / r) ** 2


def horseshoe_band(ends, plan):
    """The chain between two points of the horseshoe per path (E, 2, 2), and the networks seen by every gradient."""
    seen = []

    def losses(params, step):
        seen.append(len(params["p"]))
        return horseshoe(params["p"])

    a, b = ({"p": ends[:, side]} for side in (0, 1))
    return train_band(losses, lambda params: horseshoe(params["p"]), a, b, plan), seen


def on_circle(*angles):
    return doubles([[cos(angle), sin(angle)] for angle in angles])


def test_a_chain_relaxes_onto_the_valley_and_finds_the_height_of_its_pass():
    """The arc from angle 0.3 to pi - 0.3 is the path of steepest descent from the pass, of height 1.

    The straight line rises to 3.5; a second path is the first one's mirror image, with its pass at (0, -1). The chain
    ahead of a pivot leaves the circle at half the angle d between pivots, so that the slope along the circle, at most
    1, holds the pivot up to sin(d / 2) / (10 cos(d / 2)) off the circle, where the radial slope is 10 times that.
    Misses: a force that is not projected, or projected the wrong way, pivots that slide, ends that move.
    """
    ends = torch.stack([on_circle(0.3, pi - 0.3), on_circle(-0.3, 0.3 - pi)])
    band, _ = horseshoe_band(ends, Plan(2, 150, 3, 2, 0.02))
    assert torch.equal(band.chain[:, [0, -1]], ends)
    heights = horseshoe(band.chain)
    assert heights.amax(1).tolist() == pytest.approx([1, 1], abs=2e-3)
    off = (band.chain.norm(dim=-1) - 1).abs().max()
    assert off < tan((pi - 0.6) / 6 / 2) / 10
    torch.testing.assert_close(band.chain[1], band.chain[0] * doubles([1, -1]), atol=1e-6, rtol=0)


def test_without_steps_enough_to_move_the_chain_is_the_straight_line():
    """Misses: a start that is not on the line, and refinement that bends the chain."""
    ends = on_circle(0.3, pi - 0.3)[None]
    band, _ = horseshoe_band(ends, Plan(3, 1, 3, 2, 1e-12))
    assert band.chain.shape == (1, 9, 2)
    torch.testing.assert_close(band.chain[..., 1], torch.full((1, 9), sin(0.3), dtype=torch.float64))
    assert (band.chain.diff(dim=1)[..., 0] < 0).all()


def test_two_updates_by_hand():
    """V = 3 x + y from (0, 0) to (2, 0), uphill all the way: the second tangent is the segment ahead.

    Misses: losses of the ends that are not theirs, a rate that does not follow the cosine, no momentum.
    """
    slope, rate = np.array([3.0, 1.0]), 0.1
    height = lambda params, step=0: 3 * params["p"][:, 0] + params["p"][:, 1]  # noqa: E731
    a, b = {"p": doubles([[0, 0]])}, {"p": doubles([[2, 0]])}
    band = train_band(height, height, a, b, Plan(1, 2, 1, 1, rate))
    first = np.array([0, 1.0])  # the line's own direction taken out
    pivot = np.array([1, 0]) - rate * first
    tangent = (np.array([2, 0]) - pivot) / np.linalg.norm(np.array([2, 0]) - pivot)
    second = 0.9 * first + slope - (slope @ tangent) * tangent
    pivot = pivot - rate * cosine(2)(1) * second
    halfway = spaced(doubles([[[0, 0], pivot.tolist(), [2, 0]]]), doubles([[0, 0.5, 1]]))
    torch.testing.assert_close(band.chain, halfway)


def test_a_plan_counts_the_gradients_that_are_taken():
    """Misses: pivots or cycles counted once too often, gradients taken at the ends."""
    plan = Plan(3, 4, 3, 2, 0.01)
    _, seen = horseshoe_band(on_circle(0.3, pi - 0.3).repeat(2, 1, 1), plan)
    assert sum(seen) == 2 * plan.gradients == 2 * 4 * (3 + 5 + 7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 3.0], [0, 1]),  # uphill: the segment ahead
        ([3.0, 1.0, 0.0], [1, 0]),  # downhill: the one behind
        ([0.0, 4.0, 1.0], [3 / 5, 4 / 5]),  # a maximum, higher ahead: 4 ahead, 3 behind
        ([1.0, 4.0, 0.0], [4 / 5, 3 / 5]),  # a maximum, higher behind
        ([1.0, 0.0, 4.0], [1 / sqrt(17), 4 / sqrt(17)]),  # a minimum, higher ahead
        ([1.0, 1.0, 1.0], [1 / sqrt(2), 1 / sqrt(2)]),  # flat: both alike
    ],
)
def test_tangents_are_those_of_henkelman_and_jonsson(values, expected):
    """Segments (1, 0) behind and (0, 1) ahead: equations 8 to 11 by hand. Misses: swapped weights or neighbours."""
    chain = doubles([[[0, 0], [1, 0], [1, 1]]])
    assert tangents(chain, doubles([values]))[0, 0].tolist() == pytest.approx(expected)


def test_the_force_has_no_part_along_the_chain_and_keeps_all_of_the_rest():
    generator = torch.Generator().manual_seed(0)
    slopes, tangent = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64), torch.zeros(2, 3, 5).double()
    tangent[..., 1] = 1
    kept = across(slopes, tangent)
    assert kept[..., 1].abs().max() == 0
    assert torch.equal(kept[..., [0, 2, 3, 4]], slopes[..., [0, 2, 3, 4]])


def test_points_return_to_their_shares_of_the_length_along_the_chain():
    """Two sides of a square, of length 3 and 1. Misses: shares of the number of points, straight shortcuts."""
    chain = doubles([[[0, 0], [3, 0], [3, 1]], [[0, 0], [1, 0], [2, 0]]])
    moved = spaced(chain, doubles([[0, 0.25, 1], [0, 0.75, 1]]))
    assert moved[:, 1].tolist() == [[1, 0], [1.5, 0]]
    assert torch.equal(moved[:, [0, -1]], chain[:, [0, -1]])
    assert spaced(chain[:1], doubles([[0, 0.875, 1]]))[0, 1].tolist() == [3, 0.5]


def test_new_points_go_where_the_loss_bulges_most_above_the_chain():
    """A bump at x = 0.25 of one path and at x = 3.5 of the other, on a slope that is no bulge.

    Misses: the highest place instead of the bulge, one choice for all paths, unsorted points or shares.
    """
    chain = doubles([0.0, 1, 2, 3, 4])[None, :, None].repeat(2, 1, 1)
    centres = doubles([[0.25], [3.5]])
    heights = lambda points: 5 * points[..., 0] + torch.exp(-40 * (points[..., 0] - centres) ** 2)  # noqa: E731
    shares = doubles([0, 0.25, 0.5, 0.75, 1]).repeat(2, 1)
    longer, finer = refined(chain, shares, heights, 1)
    assert longer[..., 0].tolist() == [[0, 0.25, 1, 2, 3, 4], [0, 1, 2, 3, 3.5, 4]]
    torch.testing.assert_close(finer, longer[..., 0] / 4)


def test_a_polyline_passes_its_points_at_even_places():
    """Misses: a segment too many, ends off by rounding, members that share a place."""
    chain = doubles([[[0, 0], [1, 0], [1, 4]], [[5, 5], [6, 6], [7, 9]]])
    line = Polyline(chain, {"p": chain[:, 0]})
    for place, t in enumerate((0, 0.5, 1)):
        assert torch.equal(line(torch.full((2,), t))["p"], chain[:, place])
    assert line(doubles([0.75, 0.25]))["p"].tolist() == [[1, 2], [5.5, 5.5]]
    assert line.select([1])(doubles([0.75]))["p"].tolist() == [[6.5, 7.5]]
    assert line.members == 2


BED = {"rate": 0.1, "steps": 5, "good_loss": 1.0, "batch_size": 8, "curve_rate": 0.1}


def test_budgets_that_autoneb_cannot_spend_exactly_are_refused():
    bed = Connected(**BED, curve_steps=40)
    with pytest.raises(ValueError, match="multiple of 15, found 10 over"):
        ModeConnectivity(seeds=(0,), widths=(4,), band=Band(rate=0.1), resnet=bed, transformer=bed)


ARM = study.Arm("resnet", 8)


def network(seed, labels="true", diverged=None):
    record = Endpoint("resnet", 8, labels, seed, 0.1, 10, diverged, log(10), 0.1, 0.1, 0.1, 0.1)
    return study.Network(record, {"w": torch.tensor(-float(seed))}, {"w": torch.tensor(float(seed))})


def test_pairs_join_the_networks_that_they_are_named_after():
    """Misses: initial weights for final ones, the wrong partner, a ring that is not closed."""
    trained = [network(seed) for seed in (0, 1, 2, 100, 101, 102)] + [network(100, "shuffled")]
    found = {ends: study.joined(100, trained, ARM, ends, (0, 1, 2)) for ends in ("trained", "next", "initial")}
    weights = {ends: [(float(p.a["w"]), float(p.b["w"])) for p in pairs] for ends, pairs in found.items()}
    assert weights["trained"] == [(0, 100), (1, 101), (2, 102)]
    assert weights["next"] == [(100, 1), (101, 2), (102, 0)]
    assert weights["initial"] == [(0, -100), (-1, -101), (-2, -102)]
    assert [(p.seed, p.ends) for p in found["next"]] == [(0, "next"), (1, "next"), (2, "next")]
    (shuffled,) = study.joined(100, trained, ARM, "shuffled", (0, 1, 2))
    assert (shuffled.seed, shuffled.seeds) == (0, (0, 100))


def test_pairs_with_a_diverged_end_are_left_out():
    trained = [network(0), network(1), network(100), network(101, diverged=3)]
    assert [p.seed for p in study.joined(100, trained, ARM, "trained", (0, 1))] == [0]
    assert [p.seed for p in study.joined(100, trained, ARM, "next", (0, 1))] == [0]


def test_records_of_a_profile_made_by_hand():
    """Misses: split and metric exchanged, barriers in each other's columns, a row for the wrong path."""
    t = doubles([0, 0.5, 1])
    tables = [doubles([[1, 5, 2], [k, k, k]]) for k in range(4)]
    found = Profile(t, *tables)
    names = [("resnet", 8, "trained", "bezier", seed) for seed in (3, 4)]
    rows = pd.DataFrame(study.heights(names, found, 12))
    own = rows[rows.seed == 3].iloc[0, 8:].tolist()
    assert own == [1, 2, 5, 1, 3.5, 3.5, 3]
    of_four = rows[rows.seed == 4].set_index(["split", "metric"]).highest
    assert of_four.to_dict() == dict(
        zip(itertools.product(("train", "test"), ("loss", "error")), range(4), strict=True)
    )
    assert set(rows.gradient_evaluations) == {12}
    along = pd.DataFrame(study.along(names, found))
    assert along.iloc[1, 4:].tolist() == [3, 0.5, 5, 5, 5, 5]
    assert along.iloc[5, 4:].tolist() == [4, 1, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def settings():
    return config.read(SMOKE)


@pytest.fixture(scope="module")
def pairs(settings):
    seeds = [500, 501, 600, 601]
    trained = study.train_networks(settings, study.main_arms(settings)[0], "true", seeds)
    return study.joined(100, trained, study.main_arms(settings)[0], "trained", [500, 501])


def rows_of(settings, kind, pairs):
    heights, along = study.measure(settings, kind, study.main_arms(settings)[0], pairs)
    return pd.DataFrame(heights), pd.DataFrame(along)


def test_renumbering_at_random_changes_the_path_and_not_its_ends(settings, pairs):
    """Misses: a renumbering of the wrong end, one that is not applied, one that changes the function."""
    straight, renumbered = (rows_of(settings, kind, pairs)[0] for kind in ("linear", "renumbered"))
    loss = renumbered.metric == "loss"
    np.testing.assert_allclose(renumbered[loss]["last"], straight[loss]["last"], rtol=1e-5)
    np.testing.assert_allclose(renumbered["first"], straight["first"])
    assert (abs(renumbered[loss].over_mean - straight[loss].over_mean) > 1e-4).all()


@pytest.mark.parametrize("kind", ["autoneb", "bezier"])
def test_a_learned_path_alone_is_the_path_in_company(settings, pairs, kind):
    """Misses: minibatches or refinements of another pair, networks of different chains mixed up."""
    together, alone = (rows_of(settings, kind, some)[1] for some in (pairs, pairs[1:]))
    own = together[together.seed == 501].reset_index(drop=True)
    np.testing.assert_allclose(own.train_loss, alone.train_loss, rtol=1e-4)
    assert set(rows_of(settings, kind, pairs)[0].gradient_evaluations) == {12}


def test_every_network_of_a_chain_sees_the_same_minibatch(settings, pairs, monkeypatch):
    """Misses: batches dealt out member by member instead of pair by pair."""
    spied = []

    def spy(losses, heights, a, b, plan):
        copies = {name: value.repeat_interleave(3, 0) for name, value in a.items()}
        spied.append((losses(copies, 0).view(2, 3), heights(copies).view(2, 3)))
        return study.linear(a, b)

    monkeypatch.setattr(study, "train_band", spy)
    rows_of(settings, "autoneb", pairs)
    for values in spied[0]:
        torch.testing.assert_close(values, values[:, :1].expand(2, 3), rtol=1e-4, atol=0)
        assert values[0, 0] != values[1, 0]


# What is planted: barrier over the mean by model, ends and kind, the same on every split and metric, plus 0.001 * seed.
PLANTED = {
    ("resnet", 8, "trained", "linear"): 0.5,
    ("resnet", 8, "trained", "aligned"): 0.2,
    ("resnet", 8, "trained", "renumbered"): 0.45,
    ("resnet", 8, "trained", "bezier"): 0.01,
    ("resnet", 8, "trained", "autoneb"): 0.03,
    ("resnet", 8, "next", "bezier"): 0.015,
    ("resnet", 8, "shuffled", "bezier"): 0.4,
    ("resnet", 8, "shuffled", "linear"): 0.41,
    ("resnet", 8, "initial", "bezier"): 0.02,
    ("transformer", 48, "trained", "linear"): 0.25,
    ("transformer", 48, "trained", "aligned"): 0.22,
    ("transformer", 48, "trained", "renumbered"): 0.3,
    ("transformer", 48, "trained", "bezier"): 0.005,
}
WIDTHS = {4: 2.0, 16: 0.5}  # times the barrier at width 8
T = (0.0, 0.25, 0.5, 0.75, 1.0)
LEVELS = {"trained": (0.04, 0.04, 0.05, 0.04, 0.04), "initial": (0.9, 0.07, 0.06, 0.08, 0.9)}
LEVELS |= {"shuffled": (0.04, 0.05, 0.07, 0.059, 0.9), "next": LEVELS["trained"]}


def planted(seeds=(0, 1), step=0.001):
    heights, along = [], []
    for (model, width, ends, kind), barrier in PLANTED.items():
        for seed, split, metric in itertools.product(seeds, ("train", "test"), ("loss", "error")):
            spent = 750 if kind in ("bezier", "autoneb") else 0
            row = Height(model, width, ends, kind, seed, split, metric, spent, 0.04, 0.04, 1, 0, 0, barrier, 0)
            heights.append(dataclasses.replace(row, over_mean=barrier + step * seed))
            if (model, ends, kind[:3]) in itertools.product(["resnet"], ["trained"], ["lin", "ali", "bez"]):
                other = (dataclasses.replace(row, width=w, over_mean=barrier * by) for w, by in WIDTHS.items())
                heights += [*other] if metric == "loss" else []
        rows = itertools.product(seeds, zip(T, LEVELS[ends], strict=True))
        along += [Along(model, width, ends, kind, seed, t, value, value, value, value) for seed, (t, value) in rows]
    ends = [
        Endpoint(model, width, "true", seed, 0.1, 10, None, log(10), loss, 0, 0, 0)
        for model, width, loss in (("resnet", 8, 0.1), ("resnet", 4, 0.5), ("resnet", 16, 0.1), ("transformer", 48, 1))
        for seed in seeds
    ]
    ends.append(Endpoint("resnet", 8, "shuffled", 0, 0.1, 10, None, log(10), 2.3, 0.9, 2.3, 0.9))
    return contrasts.Frames(*map(pd.DataFrame, (ends, heights, along)))


@pytest.fixture(scope="module")
def found():
    frame = pd.DataFrame(contrasts.effects(planted()))
    return frame[frame.replicate == 0].set_index(["claim", "role"]).value


EXPECTED = {
    ("bezier_low.resnet", "claim"): 0.01,
    ("bezier_low.resnet", "shuffled_labels"): -0.38,
    ("bezier_gain.resnet", "claim"): 0.49,
    ("bezier_gain.resnet", "same_arm"): -0.005,
    ("bezier_gain.resnet", "shuffled_labels"): 0.01,
    ("autoneb_low.resnet", "claim"): -0.01,
    ("autoneb_gain.resnet", "claim"): 0.47,
    ("autoneb_gain.resnet", "same_arm"): 0.05,
    ("aligned_gain.resnet", "claim"): 0.3,
    ("aligned_gain.resnet", "same_arm"): 0.05,
    ("one_basin.resnet", "claim"): -0.18,
    ("valley_floor.resnet", "claim"): 0.1 - 0.01 / (log(10) - 0.04),
    ("valley_share.resnet", "claim"): 0.48,
    ("width_aligned.resnet", "claim"): -log(2),
    ("bezier_low.transformer", "claim"): 0.015,
    ("bezier_gain.transformer", "claim"): 0.245,
    ("bezier_gain.transformer", "same_arm"): -0.05,
    ("aligned_gain.transformer", "claim"): 0.03,
    ("aligned_gain.transformer", "same_arm"): -0.05,
    ("one_basin.transformer", "claim"): -0.2,
    ("valley_floor.transformer", "claim"): 0.1 - 0.005 / (log(10) - 0.04),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_contrasts_have_the_size_and_sign_of_what_was_planted(found, name):
    """Misses: nothing that these numbers show; they are computed from PLANTED by hand."""
    short, role = name
    assert found[f"mode_connectivity.{short}", role] == pytest.approx(EXPECTED[name])


def test_nothing_else_is_claimed(found):
    assert set(found.index) == {(f"mode_connectivity.{short}", role) for short, role in EXPECTED}


def test_replicates_without_a_barrier_are_left_out():
    """Misses: a mean over the rest, a zero in its place."""
    frames = planted()
    lost = (frames.heights.seed == 1) & (frames.heights.kind == "bezier") & (frames.heights.ends == "trained")
    frames.heights.loc[lost, "over_mean"] = np.nan
    rows = pd.DataFrame(contrasts.effects(frames))
    counts = rows[rows.role == "claim"].groupby("claim").size()
    assert counts["mode_connectivity.bezier_low.resnet"] == counts["mode_connectivity.bezier_gain.resnet"] == 1
    assert counts["mode_connectivity.aligned_gain.resnet"] == 2


def test_gates_measure_what_they_say():
    """trained: all at width 8, four of six over all widths. random_ends: 0.08 - 0.04.

    Misses: ends of the curve counted as inner, networks of other widths or models counted in.
    """
    frames = planted()
    rows = pd.DataFrame(contrasts.gates(frames, {"resnet": 0.3, "transformer": 0.9}))
    values = rows.set_index(["claim", "gate"]).value
    assert values["mode_connectivity.bezier_low.resnet", "trained"] == 1
    assert values["mode_connectivity.width_aligned.resnet", "trained"] == pytest.approx(4 / 6)
    assert values["mode_connectivity.bezier_low.transformer", "trained"] == 0
    assert values["mode_connectivity.valley_floor.resnet", "random_ends"] == pytest.approx(0.04)
    assert values["mode_connectivity.autoneb_low.resnet", "equal_gradients"] == 1
    frames.heights.loc[frames.heights.kind == "autoneb", "gradient_evaluations"] = 800
    assert contrasts.equal_gradients(frames) == 0


@pytest.mark.parametrize(
    ("links", "share"),
    [("1111", 1), ("1110", 1), ("0000", 1 / 4), ("1101", 1), ("1010", 2 / 4), ("110110", 3 / 6), ("011011", 3 / 6)],
)
def test_components_of_a_ring(links, share):
    """Misses: a run that is cut where the list ends, links counted instead of nodes."""
    assert contrasts.largest_on_ring([link == "1" for link in links]) == pytest.approx(share)


def test_findings_about_the_controls():
    """reach: 0.04, 0.05 and 0.059 of five places are within 0.02 of 0.04. The ring: every link is low."""
    values = {(row.model, row.quantity): row.mean for row in contrasts.findings(planted(step=0))}
    assert values["resnet", "Share of that curve within two points of its trained end"] == pytest.approx(3 / 5)
    assert values["resnet", "Highest test error on the inner half of a curve between trained networks"] == 0.05
    assert values["resnet", "Share of a ring of networks held together by curves lower than two points"] == 1
    assert values["resnet", "Slope of the log barrier per doubling of width, Bezier curve"] == pytest.approx(-log(2))
    frames = planted(step=0)
    frames.heights.loc[(frames.heights.ends == "next") & (frames.heights.seed == 0), "over_mean"] = 0.03
    assert contrasts.ring_share(frames) == 1  # a chain is left
    frames.heights.loc[frames.heights.ends == "next", "over_mean"] = 0.03
    assert contrasts.ring_share(frames) == 0.5  # pairs are left


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_figures_are_drawn_whatever_is_missing(seeds):
    frames = planted(seeds)
    frames.heights.loc[frames.heights.kind == "autoneb", "over_mean"] = np.nan
    figures = [drawings.profiles(frames.along), drawings.barriers(frames.heights, frames.widths)]
    figures += [drawings.width(frames.heights), drawings.controls(frames.along)]
    assert all(len(figure._repr_png_()) > 1000 for figure in figures)
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels == ["Straight line", "Straight, aligned", "Bezier curve", "AutoNEB chain"]
