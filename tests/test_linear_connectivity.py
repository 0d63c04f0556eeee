"""Branches against their parents bit for bit, averages against closed forms, contrasts against planted data."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nonconvex import config, records
from nonconvex.beds import Bed
from nonconvex.config import Training
from nonconvex.contrasts import linear_connectivity as contrasts
from nonconvex.data.splits import Arrays, Dataset
from nonconvex.drawings import linear_connectivity as drawings
from nonconvex.losses import cross_entropy
from nonconvex.measure.averaging import averages, mixture, weight_average
from nonconvex.measure.monotonicity import REPLACEMENTS, climb, drop, noise
from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.stacked import flatten, select, stack
from nonconvex.observations import linear_connectivity as observations
from nonconvex.schedules import cosine
from nonconvex.studies import linear_connectivity as study
from nonconvex.studies.forks import OTHER_ORDER, Branch, grown, parting, scheduled, stretched
from nonconvex.studies.training import with_shuffled_labels

SMOKE = Path(__file__).resolve().parents[1] / "profiles" / "smoke" / "params.yaml"
TYPES = {
    "barriers": observations.SiblingBarrier,
    "points": observations.SiblingPoint,
    "lines": observations.Line,
    "line_points": observations.LinePoint,
    "averages": observations.Averaged,
}
STEPS, AT = 12, 4


# --- how monotone -----------------------------------------------------------------------------------------------------


def test_climb_and_drop_by_all_pairs_of_places():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 9)))
    for row, up, down in zip(values.numpy(), climb(values).numpy(), drop(values).numpy(), strict=True):
        pairs = [(row[s], row[t]) for s in range(9) for t in range(s, 9)]
        assert up == max(later - earlier for earlier, later in pairs)
        assert down == max(earlier - later for earlier, later in pairs)


def test_a_falling_sequence_does_not_climb_at_all():
    falling = torch.tensor([[3.0, 2.0, 2.0, 0.5], [1.0, 0.0, 0.25, 0.1]])
    assert climb(falling).tolist() == [0.0, 0.25]
    assert drop(falling.flip(1)).tolist() == [0.0, 0.25]


def test_replaced_starts_have_the_length_they_should_have():
    _, start = stack(lambda: nn.Linear(30, 20), [1, 2])
    found = noise(start, [7, 8])
    assert torch.allclose(flatten(found).norm(dim=1), flatten(start).norm(dim=1))
    # one spread for all weights: a share 20/620 of the squared length falls on the biases, whatever they were
    share = found["bias"].square().sum(1) / flatten(found).square().sum(1)
    assert torch.all((share - 20 / 620).abs() < 0.03)
    assert torch.equal(noise(select(start, [1]), [8])["weight"][0], found["weight"][1])  # no neighbour plays a part
    assert not torch.equal(
        found["weight"][0] / found["weight"][0].norm(), found["weight"][1] / found["weight"][1].norm()
    )
    assert all(not value.any() for value in REPLACEMENTS["zero"](start, [7, 8]).values())


# --- averages and ensembles -------------------------------------------------------------------------------------------


def test_averages_of_linear_networks_in_closed_form():
    """The weight average of linear networks averages logits, their ensemble probabilities; all in numpy."""
    rng = np.random.default_rng(1)
    network, like = stack(lambda: nn.Linear(3, 4).double(), [0, 1])
    x, y = rng.normal(size=(7, 3)), rng.integers(0, 4, 7)
    weights, biases = rng.normal(size=(5, 2, 4, 3)), rng.normal(size=(5, 2, 4))
    group = [{"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)} for w, b in zip(weights, biases, strict=True)]
    assert list(like) == ["weight", "bias"]
    found = averages(
        network, cross_entropy, group, torch.zeros(1, 3).double(), (torch.from_numpy(x), torch.from_numpy(y))
    )
    logits = np.einsum("meci,ni->menc", weights, x) + biases[:, :, None]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = np.exp(logits.mean(0)) / np.exp(logits.mean(0)).sum(-1, keepdims=True)
    for scores, probability in ((found.ensemble, p.mean(0)), (found.average, mean), (found.members[3], p[3])):
        assert np.allclose(scores[0], -np.log(probability[:, range(7), y]).mean(1))
        assert np.allclose(scores[1], (probability.argmax(-1) != y).mean(1))


def test_mixture_is_a_distribution_between_its_members():
    logits = torch.tensor([[0.0, 100.0]]), torch.tensor([[300.0, 0.0]])
    assert torch.allclose(mixture(logits).exp(), torch.tensor([[0.5, 0.5]]))


class Normalised(nn.Module):
    """Two logits, a batch-normalised w x and 0."""

    def __init__(self):
        super().__init__()
        self.w, self.norm = nn.Parameter(torch.ones(1)), BatchNorm(1)

    def forward(self, x):
        logit = self.norm(self.w * x)
        return torch.cat([logit, torch.zeros_like(logit)], 1)


def test_an_average_has_statistics_of_its_own():
    """Batch norm undoes any scale, so w = 1, 3 and their average 2 predict the same; with averaged statistics not."""
    network, params = stack(Normalised, [0])
    group = [{**params, "w": torch.full((1, 1), w)} for w in (1.0, 3.0)]
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)) * 50
    found = averages(network, cross_entropy, group, x, (x, (x[:, 0] > 3).long()))
    assert torch.allclose(found.average, found.members[0], atol=1e-5)
    assert torch.allclose(found.ensemble, found.members[1], atol=1e-5)


def test_the_average_of_one_is_itself():
    _, params = stack(lambda: nn.Linear(3, 2), [5])
    assert all(torch.equal(weight_average([params, params])[name], params[name]) for name in params)


# --- runs that part ---------------------------------------------------------------------------------------------------


def tiny_bed() -> Bed:
    rng = torch.Generator().manual_seed(3)
    part = Arrays(torch.randn(64, 6, generator=rng), torch.randint(0, 3, (64,), generator=rng))
    training = Training(
        dataset="mnist1d",
        architecture={"inputs": 6, "widths": [8], "skip": False},
        loss="cross_entropy",
        optimizer={"name": "sgd", "momentum": 0.9, "weight_decay": 1e-3},
        steps=STEPS,
        batch_size=8,
        rates=(0.1,),
        cohort=4,
    )
    return Bed("mlp", training, Dataset("random", part, part, part, 3), "cpu")


@pytest.fixture(scope="module")
def family():
    bed, seeds, never = tiny_bed(), (4, 9), parting(100)
    same, constant = scheduled("cosine", 0.3, STEPS), scheduled("constant", 0.1, STEPS)
    branches = [
        Branch("parent", seeds, bed, same, never),
        Branch("same order", seeds[:1], bed, same, never),
        Branch("child", seeds, bed, same, parting(AT)),
        Branch("twin", seeds, bed, stretched("cosine", 0.3, STEPS, AT), parting(AT, 2)),
        Branch("constant", seeds, bed, constant, never),
        Branch("shuffled", seeds, with_shuffled_labels(bed, 0), constant, never),
    ]
    return grown(branches, STEPS + AT, range(STEPS + AT))


def alike(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_children_share_the_parents_run_until_they_part(family, step):
    state = family.states[step]
    for name in ("child", "twin"):
        assert alike(state[name], state["parent"]) == (step <= AT), name
    assert alike(state["constant"], state["shuffled"]) == alike(state["constant"], state["parent"]) == (step == 0)


def test_siblings_of_the_same_order_never_part(family):
    for step, state in family.states.items():
        assert alike(state["same order"], select(state["parent"], [0])), step


def test_weights_rest_after_the_run_and_only_the_twin_goes_on(family):
    end, late = family.states[STEPS], family.states[STEPS + AT]
    assert alike(end["parent"], late["parent"]) and alike(end["child"], late["child"])
    assert not alike(end["twin"], late["twin"])
    assert all(bool(fine.all()) for fine in family.finished.values())


def test_a_member_does_not_depend_on_other_branches(family):
    """Only the order of data, the rate and the start matter; to rounding, as the batched products differ."""
    bed = tiny_bed()
    alone = grown([Branch("child", (9,), bed, scheduled("cosine", 0.3, STEPS), parting(AT))], STEPS, [])
    wanted = flatten(select(family.states[STEPS]["child"], [1]))
    assert torch.allclose(flatten(alone.states[STEPS]["child"]), wanted, atol=1e-5)


def test_a_diverged_member_is_told_from_its_neighbours():
    bed = tiny_bed()
    broken = Branch("broken", (1,), bed, lambda step: 1e30, parting(99))
    found = grown([broken, Branch("fine", (1, 2), bed, lambda step: 0.01, parting(99))], 5, []).finished
    assert found["broken"].tolist() == [False] and found["fine"].tolist() == [True, True]


def test_offsets_jump_at_the_fork():
    assert [parting(3, 2)(step) for step in range(5)] == [0, 0, 0, 2 * OTHER_ORDER, 2 * OTHER_ORDER]


def test_a_stretched_schedule_joins_on_and_takes_a_whole_run_more():
    """After the fork the rest of the cosine is passed at the pace (T - k)/T; without a fork it is the cosine."""
    rate = stretched("cosine", 0.5, 100, 20)
    plain = cosine(100)
    assert [rate(t) for t in range(21)] == [0.5 * plain(t) for t in range(21)]
    assert [rate(20 + 5 * i) for i in range(20)] == pytest.approx([0.5 * plain(20 + 4 * i) for i in range(20)])
    assert rate(119) > 0 and rate(120) == 0
    assert [stretched("cosine", 0.5, 100, 0)(t) for t in range(100)] == [0.5 * plain(t) for t in range(100)]


# --- the study --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def observed():
    settings = config.read(SMOKE)
    found = study.family_records(settings, "resnet", (500, 501))
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def test_rows_can_be_written_and_read(observed, tmp_path):
    for name, kind in TYPES.items():
        rows = [kind(*row) for row in observed[name].astype(object).itertuples(index=False)]
        records.write(tmp_path / f"{name}.csv", rows)
        assert len(records.read(tmp_path / f"{name}.csv", kind)) == len(rows) > 0


def test_siblings_that_never_part_have_a_barrier_of_exactly_zero(observed):
    same = observed["barriers"].query("kind == 'same_order'")
    assert len(same) == 4 and not same[["line", "mean", "worse_end"]].to_numpy().any()


def test_barriers_are_those_of_the_points(observed):
    """Recomputed in pandas from the recorded line, each definition by its words."""
    points = observed["points"].set_index(["kind", "fork", "seed"])
    for row in observed["barriers"].itertuples():
        line = points.loc[(row.kind, row.fork, row.seed)].sort_values("t")
        values, t = line[f"{row.split}_{row.metric}"].to_numpy(), line.t.to_numpy()
        a, b = values[0], values[-1]
        assert row.ends == pytest.approx((a + b) / 2)
        assert row.mean == pytest.approx(values.max() - (a + b) / 2, abs=1e-12)
        assert row.worse_end == pytest.approx(values.max() - max(a, b), abs=1e-12)
        assert row.line == pytest.approx((values - (a + t * (b - a))).max(), abs=1e-12)


def test_siblings_and_lines_end_at_the_same_parent(observed):
    """The parent is the first end of its siblings and the last of its lines, from whatever start."""
    first = observed["points"].query("kind == 'siblings' and t == 0").groupby("seed").train_loss
    last = observed["line_points"].query("t == 1").groupby("seed").train_loss
    for seed in (500, 501):
        values = [*first.get_group(seed), *last.get_group(seed)]
        assert values == pytest.approx([values[0]] * len(values), abs=1e-6)
    zero = observed["line_points"].query("start == 'zero' and t == 0")
    assert zero.train_loss.to_numpy() == pytest.approx(np.log(10))


def test_lines_run_from_earlier_to_later(observed):
    lines = observed["lines"]
    within = lines[lines.start == "checkpoint"]
    assert set(zip(within.earlier, within.later, strict=True)) == {(20, 40), (20, 60), (40, 60)}
    assert (lines[lines.start != "checkpoint"][["earlier", "later"]] == [0, 60]).all(axis=None)
    losses = {(s, step): loss for s, step, loss in within[["seed", "later", "loss_later"]].itertuples(index=False)}
    middle = within[within.earlier == 40]
    assert middle.loss_earlier.to_numpy() == pytest.approx([losses[seed, 40] for seed in middle.seed], abs=1e-6)
    points = observed["line_points"].query("start == 'other'").sort_values("t").groupby("seed").train_loss
    other = lines[lines.start == "other"].set_index("seed")
    for seed, values in points:
        v = values.to_numpy()
        assert other.climb[seed] == pytest.approx(max(v[j] - v[i] for i in range(len(v)) for j in range(i, len(v))))


def test_the_last_of_a_stretch_is_the_end_of_the_run(observed):
    """The same network is scored as the parent of siblings and as the last checkpoint of its run."""
    rows = observed["averages"]
    assert set(rows.arm) == {"cosine", "constant", "shuffled", "siblings"}
    for _, of_seed in rows[rows.arm.isin(["cosine", "siblings"])].groupby("seed"):
        assert of_seed.last_loss.to_numpy() == pytest.approx(of_seed.last_loss.iloc[0], abs=1e-6)
    assert rows[rows.arm != "siblings"].barrier.notna().all() and rows[rows.arm == "siblings"].barrier.isna().all()


def test_a_family_with_a_diverged_run_leaves_no_rows(monkeypatch):
    settings = config.read(SMOKE)
    whole = study.family_of

    def broken(*arguments):
        family = whole(*arguments)
        finished = {**family.runs.finished, "constant": torch.tensor([True, False])}
        return replace(family, runs=replace(family.runs, finished=finished))

    monkeypatch.setattr(study, "family_of", broken)
    found = study.family_records(settings, "transformer", (500, 501))
    assert all({row.seed for row in rows} == {500} for rows in found.values())


def test_checkpoints_and_stretch_by_hand():
    how = config.read(SMOKE).properties.linear_connectivity.beds["resnet"]
    seven = how.model_copy(update={"checkpoints": 7, "averaged": 6})
    assert study.checkpoints(seven, 400) == [57, 114, 171, 229, 286, 343, 400]
    assert study.stretch(seven, 400) == [300, 320, 340, 360, 380, 400]


# --- contrasts --------------------------------------------------------------------------------------------------------

SEEDS = {"resnet": range(4), "transformer": range(3)}
PLANTED = {  # the effect that the frames below were given, per claim: (ResNet, transformer)
    "siblings_drop": (0.30, 0.30),
    "siblings_stable": (0.015, 0.015),
    "siblings_full_length": (0.25, 0.25),
    "within_run_monotone": (0.25, 0.25),
    "within_run_barrier": (0.0, 0.0),
    "init_own_monotone": (0.5, 0.5),
    "init_specific": (1.0, 1.0),
    "init_specific_height": (0.4, 0.4),
    "init_beyond_scaling": (0.0, 0.0),
    "init_beyond_noise": (1.0, 1.0),
    "average_beats_last": (-0.03, -0.3),
    "average_beats_last_cosine": (-0.01, -0.1),
    "ensemble_beats_last": (-0.05, -0.5),
    "average_equals_ensemble": (0.02, 0.2),
    "average_needs_connection": (0.07, 0.7),
}


@pytest.fixture
def planted() -> dict[str, pd.DataFrame]:
    members = [(model, seed) for model, seeds in SEEDS.items() for seed in seeds]
    found = {name: [] for name in TYPES}
    for model, seed in members:
        found["barriers"] += barrier_rows(model, seed)
        found["points"] += [
            observations.SiblingPoint(model, "siblings", fork, seed, t, 1, 0.2, 1, 0.3)
            for fork, t in product((0.0, 0.05), (0.0, 0.5, 1.0))
        ]
        found["lines"] += line_rows(model, seed)
        found["line_points"] += [
            observations.LinePoint(model, start, seed, t, 2 - t, 0.5)
            for start, t in product(("own", "other", "zero", "noise"), (0.0, 0.5, 1.0))
        ]
        found["averages"] += average_rows(model, seed)
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def barrier_rows(model: str, seed: int) -> list[observations.SiblingBarrier]:
    """Only train error over the mean of the ends counts; everything else is 9."""
    heights = {
        ("siblings", 0.0): 0.305,
        ("siblings", 0.05): 0.005,
        ("full_length", 0.05): 0.055,
        ("same_order", 1.0): 0,
    }
    rows = []
    for ((kind, fork), height), split, metric in product(heights.items(), ("train", "test"), ("loss", "error")):
        counts = (split, metric) == ("train", "error")
        other = 0.0 if kind == "same_order" else 9.0
        value = height + 0.001 * seed * (kind == "siblings") if counts else other
        rows.append(observations.SiblingBarrier(model, kind, fork, seed, split, metric, 1, other, value, other))
    return rows


def line_rows(model: str, seed: int) -> list[observations.Line]:
    """Three of four pairs of checkpoints fall to the tolerance, two of four have no ridge."""
    pairs = [(0.001, 0.0), (0.0, 0.019), (0.00199, 0.021), (0.0021, 0.5)]
    rows = [
        observations.Line(model, "checkpoint", seed, i, i + 1, 2, 1, rise, 1, ridge, 0.9, 0)
        for i, (rise, ridge) in enumerate(pairs)
    ]
    climbs = {"own": 0.0, "other": 0.4, "zero": 0.0, "noise": 0.01}
    return rows + [
        observations.Line(model, start, seed, 0, 9, 3, 0.5, rise, 1, 0.3, 0.3, 0.3) for start, rise in climbs.items()
    ]


def average_rows(model: str, seed: int) -> list[observations.Averaged]:
    """(last, members, average, ensemble) errors, and losses ten times as large; the seed shifts them all alike."""
    scores = {
        ("constant", 0.75): (0.10, 0.12, 0.07, 0.05),
        ("cosine", 0.75): (0.10, 0.12, 0.09, 0.08),
        ("shuffled", 0.75): (0.90, 0.90, 0.90, 0.90),
        ("siblings", 0.0): (0.10, 0.10, 0.18, 0.08),
        ("siblings", 0.05): (0.10, 0.10, 0.12, 0.09),
    }
    rows = []
    for (arm, fork), values in scores.items():
        numbers = [x for value in values for x in (10 * value + 0.2 * seed, value + 0.02 * seed * (arm != "shuffled"))]
        barrier = None if arm == "siblings" else 0.03 if (arm, seed) == ("constant", 0) else 0.01
        rows.append(observations.Averaged(model, arm, fork, seed, 6, barrier, *numbers))
    return rows


def values_of(effects, short: str, model: str, role: str = "claim") -> list[float]:
    return [e.value for e in effects if e.claim == contrasts.claim(short, model) and e.role == role]


@pytest.mark.parametrize(("short", "model"), [*product(PLANTED, SEEDS)])
def test_every_contrast_finds_what_was_planted(planted, short, model):
    """The sign and the size of each; a swapped pair, split, metric, definition or fork shows."""
    found = values_of(contrasts.effects(planted), short, model)
    wanted = PLANTED[short][model == "transformer"]
    drift = [
        -0.001 * s * (short == "siblings_stable") + 0.001 * s * (short == "siblings_full_length") for s in SEEDS[model]
    ]
    assert found == pytest.approx([wanted + d for d in drift])


def test_every_contrast_is_planted():
    assert set(contrasts.CONTRASTS) == set(PLANTED)


def test_equal_arms_are_paired_without_sharing_a_run(planted):
    effects = contrasts.effects(planted)
    assert values_of(effects, "average_beats_last", "resnet", "same_arm") == pytest.approx([-0.04, -0.04])
    assert values_of(effects, "average_beats_last_cosine", "transformer", "same_arm") == pytest.approx([-0.2])
    assert values_of(effects, "average_beats_last", "resnet", "shuffled_labels") == pytest.approx([0] * 4)


def test_a_seed_missing_from_one_arm_is_left_out_of_its_contrasts(planted):
    rows = planted["barriers"]
    planted["barriers"] = rows[~((rows.seed == 2) & (rows.fork == 0))]
    effects = contrasts.effects(planted)
    assert len(values_of(effects, "siblings_drop", "resnet")) == 3
    assert len(values_of(effects, "siblings_stable", "resnet")) == 4


def gate(found, short: str, model: str) -> dict[str, float | None]:
    return {one.gate: one.value for one in found if one.claim == contrasts.claim(short, model)}


def test_gates_by_hand(planted):
    planted["lines"].loc[planted["lines"].seed == 1, "loss_later"] = 1.6  # more than half of 3
    found = contrasts.gates(planted, {"resnet": 5, "transformer": 3})
    assert gate(found, "siblings_drop", "resnet") == {"trained": 3 / 5, "same_order": 0}
    assert gate(found, "within_run_monotone", "transformer") == {"trained": pytest.approx(2 / 3)}
    assert gate(found, "average_beats_last", "resnet") == {"trained": 3 / 5, "connected": 3 / 4}
    assert gate(found, "average_beats_last_cosine", "resnet") == {"trained": 3 / 5, "connected": 1}
    assert gate(found, "average_needs_connection", "resnet") == {"trained": 3 / 5, "same_order": 0}


@pytest.mark.parametrize("definition", ["line", "mean", "worse_end"])
def test_any_barrier_of_the_same_order_is_seen(planted, definition):
    rows = planted["barriers"]
    at = rows.index[(rows.kind == "same_order") & (rows.model == "resnet") & (rows.metric == "loss")][0]
    rows.loc[at, definition] = -1e-9
    found = contrasts.gates(planted, {"resnet": 4, "transformer": 3})
    assert gate(found, "siblings_stable", "resnet")["same_order"] == 1e-9
    assert gate(found, "siblings_stable", "transformer")["same_order"] == 0


def test_nothing_observed_gives_no_effect_and_blank_gates():
    frames = {name: records.empty(kind) for name, kind in TYPES.items()}
    assert contrasts.effects(frames) == []
    found = contrasts.gates(frames, {"resnet": 4, "transformer": 3})
    assert {one.value for one in found if one.gate != "trained"} == {None}
    assert {one.value for one in found if one.gate == "trained"} == {0.0}
    assert all(one.n == 0 and one.mean is None for one in contrasts.findings(frames))


def test_findings_have_the_means(planted):
    found = {(one.model, one.quantity): one for one in contrasts.findings(planted)}
    assert found["resnet", "train error barrier between siblings, k = 0%"].mean == pytest.approx(0.3065)
    assert found["transformer", "test loss, ensemble minus last, constant rate"].mean == pytest.approx(-0.5)
    assert found["resnet", "share of lines to the end with falling train loss, start other"].mean == 0


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 3])
def test_figures_show_every_model_and_arm(planted, seeds):
    few = {name: frame[frame.seed < seeds] for name, frame in planted.items()}
    drawn = [
        drawings.siblings(few["points"], few["barriers"]),
        drawings.checkpoints(few["lines"]),
        drawings.starts(few["line_points"]),
        drawings.averages(few["averages"]),
    ]
    for figure in drawn:
        assert {panel.get_title(loc="left").split(":")[0] for panel in figure.axes[:2]} == {"ResNet", "Transformer"}
        assert f"n = {seeds}" in figure.get_suptitle()
    assert {text.get_text() for text in drawn[2].legends[0].get_texts()} == set(drawings.STARTS.values())


def test_what_is_drawn_is_the_mean_with_its_interval(planted):
    """The circle at k = 0 of the ResNet: 0.3065 = mean of 0.305, 0.306, 0.307, 0.308."""
    panel = drawings.siblings(planted["points"], planted["barriers"]).axes[2]
    heights = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == drawings.MARKERS[0]]
    assert heights == pytest.approx([0.3065])
