"""Stability thresholds by running every optimizer on a quadratic; readings on runs that are known on paper; every
contrast of the edge of stability on planted records."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from curvature_oracles import quadratic

from nonconvex import config, train
from nonconvex.contrasts import edge_of_stability as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.measure.stability import preconditioner, sharpness, threshold
from nonconvex.observations.edge_of_stability import ChangePoint, EdgePoint, EdgeRun
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.strategies.base import Strategy
from nonconvex.studies import edge_of_stability as study
from nonconvex.studies.trajectories import branched, evenly, pushed, readings, rounded
from nonconvex.study_settings.base import Lanczos
from nonconvex.study_settings.properties import Descent, RateChange

EXACT = Lanczos(iterations=30, tolerance=1e-3)
SMOKE = FOLDER.parent / "profiles" / "smoke" / "params.yaml"
RATE = torch.tensor([0.5], dtype=torch.float64)
OPTIMIZERS = [
    Sgd(),
    Sgd(0.5),
    Sgd(0.9),
    Sgd(0.5, nesterov=True),
    Sgd(0.9, nesterov=True),
    AdamW(weight_decay=0.0),
    AdamW(beta1=0.5, weight_decay=0.0),
]


def growth(optimizer, curvature: float, scale: float = 3.0) -> float:
    """|w| after many updates on curvature w² / 2, over |w| before; Adam's second moment is held at scale²."""
    w = {"w": torch.full((1, 1), 1e-6, dtype=torch.float64)}
    held = {"w": torch.full((1, 1), scale**2, dtype=torch.float64)}
    state, sizes = optimizer.init(w), []
    for step in range(1_000_000, 1_000_800):  # far enough on that the moments' corrections are 1
        if "second" in state:
            state = {**state, "second": held}
        w, state = optimizer.update(w, {"w": curvature * w["w"]}, state, RATE, step)
        sizes.append(abs(float(w["w"])))
    return max(sizes[-4:]) / 1e-6


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_just_below_its_threshold_an_optimizer_converges_and_just_above_it_diverges(optimizer):
    scale = 3.0 if isinstance(optimizer, AdamW) else 1.0  # the curvature in Adam's metric is λ / scale
    limit = float(threshold(optimizer, RATE)) * scale
    assert growth(optimizer, 0.99 * limit) < 0.1
    assert growth(optimizer, 1.01 * limit) > 10


def test_the_thresholds_of_the_literature():
    """Cohen et al. 2021, 2022: 2 / rate, and 38 / rate for Adam at its usual momentum."""
    assert threshold(Sgd(), RATE).item() == pytest.approx(4)
    assert threshold(AdamW(weight_decay=0.0), RATE).item() == pytest.approx(76)
    with pytest.raises(ValueError, match=r"weight_decay is 0\.01"):
        threshold(AdamW(), RATE)


def quadratic_run(rates, optimizer, curvatures=(1.0, 4.0)):
    """A cohort on ½ Σ h w² whose rates (steps,) are given, and its start."""
    h = torch.tensor(curvatures, dtype=torch.float64)
    params = {"w": torch.ones(1, len(h), dtype=torch.float64)}
    made = train.Cohort(
        loss=lambda params, x, y: 0.5 * (h * params["w"].square()).sum(1),
        batch=lambda seeds, step: (None, None),
        rates=torch.tensor(rates, dtype=torch.float64)[:, None],
        order=lambda step: [0],
        optimizer=optimizer,
        strategy=Strategy(),
    )
    return made, train.start(made, params)


def test_the_preconditioner_is_what_the_last_update_divided_by():
    optimizer = AdamW(weight_decay=0.0)
    made, begin = quadratic_run([0.01] * 7, optimizer)
    *_, before, after = train.train(made, begin)
    d = preconditioner(optimizer, after)
    moved = (before.params["w"] - after.params["w"]) * d / 0.01
    assert torch.allclose(moved, after.optimizer["first"]["w"], rtol=1e-9)
    with pytest.raises(ValueError, match="step is 0"):
        preconditioner(optimizer, begin)


@pytest.mark.parametrize("optimizer", [Sgd(0.9), AdamW(weight_decay=0.0)], ids=str)
def test_the_sharpness_of_adam_is_that_in_its_own_metric(optimizer):
    """On a diagonal quadratic the eigenvalues are h / D: the largest of them is not at the largest h here."""
    h, second = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([[0.01, 4.0, 400.0]]).double()
    objective, params = quadratic(h, torch.ones(1, 3, dtype=torch.float64))
    state = train.State(1000, params, {"second": {"w": second}}, {}, torch.tensor([-1]), torch.zeros(1))
    d = (1 - 0.9**1000) * ((second / (1 - 0.999**1000)).sqrt() + 1e-8)
    expected = (h / d).max() if isinstance(optimizer, AdamW) else h.max()
    found = sharpness(objective, optimizer, state, iterations=3, tolerance=1e-9)
    assert found.value.item() == pytest.approx(expected.item(), rel=1e-9)


class Echo:
    """A probe that reads nothing but what it is given."""

    def read(self, state, rises):
        return state.step, rises.tolist()


def test_rises_count_the_updates_since_the_last_reading_that_raised_the_loss():
    """On λ = 4 the rate 0.6 diverges and 0.1 converges. A state knows the loss before its update: one pair less."""
    made, begin = quadratic_run([0.6] * 10 + [0.1] * 10, Sgd(), (4.0,))
    found = [reading for _, reading in readings(Echo(), made, begin, [0, 10, 20])]
    assert [step for step, _ in found] == [0, 10, 20]
    assert np.isnan(found[0][1]).all() and found[1][1] == [1.0] and found[2][1] == pytest.approx([0.1])


def test_branches_share_their_past_and_one_arm_is_pushed_by_a_share_of_its_length():
    params = {"a": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), "b": torch.ones(2, 5)}
    state = train.State(7, params, {"velocity": params}, {}, torch.tensor([-1, 3]), torch.tensor([0.5, 0.1]))
    three = branched(state, 3)
    assert three.step == 7 and three.diverged.tolist() == [-1, 3] * 3
    assert torch.equal(three.params["a"][4:], params["a"]) and torch.equal(
        three.optimizer["velocity"]["b"], three.params["b"]
    )
    moved = pushed(three.params, place=1, width=2, size=0.01)
    gap = torch.cat([(moved[k] - three.params[k]).flatten(1) for k in params], 1).norm(dim=1)
    length = torch.cat([three.params[k].flatten(1) for k in params], 1).norm(dim=1)
    assert torch.allclose(gap, length * torch.tensor([0, 0, 0.01, 0.01, 0, 0]), rtol=1e-3, atol=1e-7)


def test_evenly_spaced_steps_hold_both_ends_and_rounding_keeps_significant_digits():
    assert evenly(10, 3) == [0, 5, 10] and evenly(10, 3, start=4) == [4, 9, 14]
    assert rounded(123.456) == 123.5 and rounded(0.0123456, 2) == 0.012 and rounded(float("nan")) is None


# Contrasts on planted records

RATES, SEEDS, STEPS = (0.1, 0.2, 0.4), range(3), range(0, 100, 10)
KEPT, CHANGED = 8.0, {"keep": 1.0, "jostled": 1.02, "much_lower": 1.5, "lower": 1.25, "higher": 0.75}


def curve(loss: str, rate: float, step: int) -> float:
    """The planted ratio: 0.5 and 0.8, then 1.0 for good under squared error, halving every reading otherwise."""
    place = step // 10
    return (0.5, 0.8)[place] if place < 2 else 1.0 if loss == "squared_error" else 0.5 ** (place - 2)


def planted() -> dict[str, pd.DataFrame]:
    """Gradient descent at three rates under both losses, and the arms of the intervention."""
    cells = list(product(contrasts.LOSSES, ["gd"], RATES, SEEDS))
    runs = [EdgeRun(*key, 90, 2 / key[2], None, 0.0) for key in cells]
    points = [
        EdgePoint(*key, step, 2 / key[2] * curve(key[0], key[2], step), 0.01 + 0.001 * (step == 0), 1 / (1 + step), 0.3)
        for key, step in product(cells, STEPS)
    ]
    changes = [
        ChangePoint(loss, arm, seed, step, 8.0 / factor**2, KEPT * (factor if step > 60 else 1), 0.02, 0.1)
        for loss, (arm, factor), seed, step in product(contrasts.LOSSES, CHANGED.items(), SEEDS, STEPS)
    ]
    return {name: pd.DataFrame(rows) for name, rows in (("runs", runs), ("points", points), ("changes", changes))}


def effects_of(frames) -> dict[tuple[str, str], list[float]]:
    found = pd.DataFrame(contrasts.effects(frames))
    return {key: list(rows.value) for key, rows in found.groupby(["claim", "role"])}


@pytest.fixture(scope="module")
def found():
    return effects_of(planted())


@pytest.mark.parametrize(
    ("claim", "role", "expected"),
    [
        ("edge.gd_squared_error", "claim", -0.05),
        ("edge_slow.gd_squared_error", "claim", -0.05),
        ("edge.gd_cross_entropy", "claim", (0.5**6 + 0.5**7) / 2 - 1.05),
        ("slope.gd_squared_error", "claim", 0),
        ("falls.gd_cross_entropy", "claim", np.log((1 + 0.5) / (0.5**6 + 0.5**7))),
        ("divide.squared_error", "claim", np.log(1.5)),
        ("divide.cross_entropy", "claim", np.log(1.5)),
        ("divide.squared_error", "same_arm", np.log(1.02)),
        ("multiply.squared_error", "claim", np.log(0.75)),
        ("return_lower.squared_error", "claim", 1.25**3 - 1.05),
        ("return_higher.squared_error", "claim", 0.75**3 - 1.05),
        ("approach.gd_squared_error", "claim", 0.5),
        ("nonmonotone.gd_squared_error", "claim", 0.3),
        ("progress.gd_squared_error", "claim", np.log(91 / 21)),
    ],
)
def test_every_contrast_finds_what_was_planted_with_its_sign(found, claim, role, expected):
    assert found[f"edge_of_stability.{claim}", role] == pytest.approx([expected] * 3)


def test_the_rate_that_strays_furthest_decides_with_its_own_sign():
    table = pd.DataFrame({0.1: [1.0, 1.0, 1.0], 0.2: [1.3, 0.7, np.nan]})
    assert contrasts.furthest(table).to_dict() == pytest.approx({0: 0.25, 1: -0.35})


def test_the_slope_is_per_seed_and_constant_curvature_has_slope_zero():
    frames = planted()
    frames["points"].loc[frames["points"].seed == 1, "sharpness"] = 5.0
    found = effects_of(frames)["edge_of_stability.slope.gd_squared_error", "claim"]
    assert found == pytest.approx([0, -1, 0])


def test_a_run_that_never_gets_there_has_no_effect_and_fails_the_gate():
    frames = planted()
    points = frames["points"]
    points.loc[(points.seed == 2) & (points.rate == 0.1), "sharpness"] = 3.0
    found, gates = effects_of(frames), pd.DataFrame(contrasts.gates(frames)).set_index(["claim", "gate"]).value
    for name in ("edge", "edge_slow", "approach", "nonmonotone", "progress"):
        assert len(found[f"edge_of_stability.{name}.gd_squared_error", "claim"]) == 2
        assert gates[f"edge_of_stability.{name}.gd_squared_error", "edge_reached"] < 1
    assert len(found["edge_of_stability.edge_fast.gd_squared_error", "claim"]) == 3
    assert gates["edge_of_stability.edge_slow.gd_squared_error", "edge_reached"] == pytest.approx(2 / 3)
    assert gates["edge_of_stability.edge_fast.gd_squared_error", "edge_reached"] == 1


def test_a_run_that_diverges_at_the_edge_has_no_effect():
    frames = planted()
    points = frames["points"]
    points.loc[(points.seed == 0) & (points.step >= 90), ["sharpness", "train_loss", "rises"]] = np.nan
    found = effects_of(frames)
    assert len(found["edge_of_stability.edge.gd_squared_error", "claim"]) == 2
    assert len(found["edge_of_stability.slope.gd_squared_error", "claim"]) == 2
    assert len(found["edge_of_stability.progress.gd_squared_error", "claim"]) == 2
    assert len(found["edge_of_stability.nonmonotone.gd_squared_error", "claim"]) == 2


def test_residuals_count_where_the_contrast_looks():
    """The worst eigenpair of a run is that of its first reading, before the edge."""
    gates = pd.DataFrame(contrasts.gates(planted())).set_index(["claim", "gate"]).value
    assert gates["edge_of_stability.edge.gd_squared_error", "residual"] == pytest.approx(0.01)
    assert gates["edge_of_stability.divide.squared_error", "residual"] == pytest.approx(0.02)
    assert gates["edge_of_stability.divide.squared_error", "edge_reached"] == 1
    assert np.isnan(gates["edge_of_stability.edge.adam_squared_error", "edge_reached"])


# The study itself


@pytest.fixture(scope="module")
def settings():
    whole = config.read(SMOKE)
    descents = {"squared_error": {"gd": Descent(rates=(0.2, 0.4), steps=20)}}
    changes = {"squared_error": RateChange(rate=0.4, before=12, after=8, readings=8, jostle=0.1)}
    mine = whole.properties.edge_of_stability.model_copy(
        update={"descents": descents, "changes": changes, "seeds": (500,), "widths": (6, 5), "lanczos": EXACT}
    )
    properties = whole.properties.model_copy(update={"edge_of_stability": mine})
    return whole.model_copy(update={"properties": properties})


@pytest.fixture(scope="module")
def observed(settings):
    runs, points = study.descend(settings, "squared_error", "gd", (500,))
    return pd.DataFrame(runs), pd.DataFrame(points), pd.DataFrame(study.change_rate(settings, "squared_error", (500,)))


def test_the_arm_that_keeps_its_rate_is_the_run_that_was_never_stopped(observed):
    _, points, changed = observed
    whole = points[(points.rate == 0.4) & (points.step == 20)]
    kept = changed[(changed.arm == "keep") & (changed.step == 20)]
    assert kept.train_loss.item() == pytest.approx(whole.train_loss.item(), rel=1e-3)
    assert kept.sharpness.item() == pytest.approx(whole.sharpness.item(), rel=1e-3)


def test_all_arms_leave_one_checkpoint_with_their_own_thresholds(observed):
    first = observed[2].query("step == 12").set_index("arm")
    assert first.drop(index="jostled").train_loss.nunique() == 1 and first.train_loss.nunique() == 2
    assert first.threshold.to_dict() == pytest.approx(
        {"keep": 5, "jostled": 5, "much_lower": 20, "lower": 6.25, "higher": 2 / 0.4 / 1.27}, rel=1e-3
    )
    last = observed[2].query("step == 20").set_index("arm").train_loss
    assert last["much_lower"] != last["keep"] != last["higher"]


def test_a_reading_is_the_largest_eigenvalue_of_the_whole_hessian(settings, observed):
    """Against the dense Hessian of the module itself, without stacking. Would miss an error of the module."""
    bed = study.edge_bed(settings, "squared_error")
    torch.manual_seed(500)
    module = bed.build()
    x, y = bed.data.train.examples()
    onehot = torch.nn.functional.one_hot(y, 10).float()
    shapes = {name: p.shape for name, p in module.named_parameters()}

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        weights = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return 0.5 * (torch.func.functional_call(module, weights, (x,)) - onehot).square().sum(1).mean()

    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    expected = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1].item()
    start = observed[1].query("step == 0 and rate == 0.2")
    assert start.sharpness.item() == pytest.approx(expected, rel=2e-3)
    assert start.train_loss.item() == pytest.approx(loss(flat).item(), rel=1e-3)


def test_adam_is_read_from_its_first_update_on(settings):
    mine = settings.properties.edge_of_stability
    descents = {"squared_error": {"adam": Descent(rates=(0.01, 0.02), steps=16)}}
    properties = settings.properties.model_copy(
        update={"edge_of_stability": mine.model_copy(update={"descents": descents})}
    )
    runs, points = study.descend(
        settings.model_copy(update={"properties": properties}), "squared_error", "adam", (500,)
    )
    assert min(point.step for point in points) > 0
    assert {run.threshold for run in runs} == {3800.0, 1900.0}
