"""The two notebooks for newcomers run as they stand, and what they demonstrate shows."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from scipy import stats

from nonconvex import config
from nonconvex.claims import INCONCLUSIVE, NOT_SUPPORTED, REVERSED, SUPPORTED
from nonconvex.study_settings.base import Study

ROOT = Path(__file__).resolve().parents[1]
MOST = 120  # lines of code of the ten-minute notebook, blank ones not counted


def code_cells(name: str) -> list:
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def executed(name: str, **parameters) -> dict:
    """What the notebook's cells leave behind, run one after the other in this process."""
    scope: dict = {}
    for cell in code_cells(name):
        exec(cell.source, scope)
        if "parameters" in cell.metadata.get("tags", []):
            scope |= parameters
    return scope


@pytest.fixture(scope="module")
def minimal() -> dict:
    return executed("minimal", seeds=4, steps=100)


@pytest.fixture(scope="module")
def mistakes() -> dict:
    settings = config.read(ROOT / "params.yaml")
    lessons = Study(seeds=(600, 601, 602, 603), tuning=(1000,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "read", lambda path: settings.model_copy(update={"lessons": lessons}))
        return executed("common_mistakes")


def test_the_whole_idea_fits_into_120_lines():
    lines = [line for cell in code_cells("minimal") for line in cell.source.splitlines()]
    assert 60 < sum(bool(line.strip()) for line in lines) < MOST


def test_the_middle_of_a_network_and_its_mirror_image_proves_that_the_loss_is_not_convex(minimal):
    left, middle, right = (
        minimal["loss_between"](minimal["original"], minimal["mirrored"], t) for t in (0.0, 0.5, 1.0)
    )
    assert left == pytest.approx(right, rel=1e-5) and middle > left + 0.02
    x = minimal["x"]
    torch.testing.assert_close(minimal["original"](x), minimal["mirrored"](x), rtol=1e-4, atol=1e-4)
    assert (minimal["original"][0].weight - minimal["mirrored"][0].weight).norm() > 1


def test_the_interval_and_the_verdict_are_those_of_the_pairs(minimal):
    errors, effect = minimal["errors"], minimal["effect"]
    low, high = stats.ttest_rel(errors["constant"], errors["linear"]).confidence_interval()
    assert (effect.low, effect.high, effect.n) == (pytest.approx(low), pytest.approx(high), 4)
    won, lost = low > 0 and effect.estimate >= 0.01, high < 0.01
    lost_word = REVERSED if high < 0 else NOT_SUPPORTED
    assert minimal["word"] == (SUPPORTED if won else lost_word if lost else INCONCLUSIVE)


def test_a_run_is_decided_by_its_seed_and_not_by_what_ran_before(minimal):
    again = minimal["train"](1, minimal["best"]["linear"], "linear")
    for found, kept in zip(again.parameters(), minimal["runs"]["linear"][1].parameters(), strict=True):
        assert torch.equal(found, kept)


def test_the_lesson_s_curvature_is_the_package_s_and_lies_within_its_residual(minimal):
    exact, found = minimal["exact"], minimal["found"]
    assert len(exact) == 1234 and exact[0] < -1e-3
    for end, value in ((found.largest, exact[-1]), (found.smallest, exact[0])):
        assert abs(end.value.item() - value.item()) <= end.residual.item() + 1e-4 * exact[-1].item()
    v, power = minimal["v"], minimal["power"]
    residual = (minimal["product"](v) - power * v).norm().item()
    assert (exact - power).abs().min().item() <= residual + 1e-4 * exact[-1].item()


def test_a_barrier_for_each_pair_of_runs(minimal):
    assert len(minimal["barriers"]) == 2 and min(minimal["barriers"]) >= 0


# The mean effect that each way gives, lowest and highest: on these seeds the mistake is larger than what lies between.
SHOWN = {
    "Stale normalisation statistics": ((0.22, 0.4), (0.02, 0.17)),
    "Largest magnitude for largest eigenvalue": ((0.3, 3), (-0.9, -0.1)),
    "Ragged batches counted as one": ((1, 4), (-1e-3, 1e-3)),
    "Schedules at one common rate": ((-0.1, -0.005), (0.005, 0.1)),
    "SAM at equal steps": ((-0.03, 0.01), (-0.2, -0.05)),
    "Sharpness at unequal loss": ((1, 5), (-0.4, 0.5)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_mistake_shows(mistakes, name):
    found = mistakes["mistakes"][name]["effects"]
    for way, (low, high) in zip(("wrong", "right"), SHOWN[name], strict=True):
        assert len(found[way]) == 4 and low < found[way].mean() < high, (way, found[way])


def test_every_mistake_is_demonstrated_and_none_beside(mistakes):
    assert list(mistakes["mistakes"]) == list(SHOWN)


def test_the_verdicts_are_those_of_the_rule_and_differ(mistakes):
    for name, found in mistakes["mistakes"].items():
        assert found["verdicts"]["wrong"] != found["verdicts"]["right"], (name, found)


def test_power_iteration_finds_the_smallest_eigenvalue_without_its_sign(mistakes):
    exact = mistakes["exact"].numpy()
    assert mistakes["size"][0].item() == pytest.approx(-exact[0], rel=1e-2)
    ends = np.array([mistakes["ends"].smallest.value[0], mistakes["ends"].largest.value[0]])
    assert ends == pytest.approx(exact[[0, -1]], rel=1e-2)
