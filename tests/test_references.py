"""Held against published numbers: the recipes are the published ones, and the comparison can fail."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny_gpu
import torch

from nonconvex import agreement, beds, checkpoints, config
from nonconvex.data.splits import Arrays
from nonconvex.references import edge, resnet
from nonconvex.studies.training import factory


@pytest.fixture
def settings(tmp_path, monkeypatch) -> config.Settings:
    monkeypatch.setattr(beds, "_dataset", tiny_gpu.dataset)
    return tiny_gpu.settings(tmp_path)


def test_the_recipe_is_the_published_one():
    """He et al. 2016, section 4.2: 64k iterations of 128, 0.1 divided by 10 at 32k and 48k, decay 1e-4."""
    asked = config.read(tiny_gpu.GPU)
    bed, recipe = asked.train["resnet"], resnet.recipe_of(asked.validation.resnet)
    assert (bed.dataset, bed.architecture) == ("cifar10", {"dimensions": 2, "depth": 20, "width": 16})
    assert (recipe.steps, recipe.batch_size, asked.validation.resnet.rate) == (64_000, 128, 0.1)
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay, recipe.optimizer.nesterov) == (0.9, 1e-4, False)
    multiple = factory(recipe.schedule)(recipe.steps)
    found = [multiple(step) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert len(asked.validation.resnet.seeds) == 5
    assert (resnet.ACCURACY, resnet.TOLERANCE) == (0.912, 0.005)


def test_the_edge_is_the_published_one():
    asked = config.read(tiny_gpu.GPU).validation.edge
    assert [2 / rate for rate in asked.rates] == [200, 100, 50]
    assert (asked.widths, asked.examples, asked.accuracy) == ((200, 200), 5_000, 0.99)


def test_reference_runs_end_scored_and_resumed_alike(settings, tmp_path, monkeypatch):
    """Training images that are augmented when scored, a seed that is another's, a checkpoint that changes the end."""
    found = resnet.observe(settings)
    assert [(run.seed, run.steps, run.diverged_step) for run in found] == [(0, 12, None), (1, 12, None)]
    assert len({run.test_loss for run in found}) == 2 and all(0 <= run.test_error <= 1 for run in found)
    assert all(run.train_loss < math.log(10) for run in found)  # it learns something
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    assert resnet.observe(settings, tmp_path / "kept") == found
    monkeypatch.setattr("nonconvex.checkpoints.train", lambda cohort, state: iter(()))  # nothing is left to train
    assert resnet.observe(settings, tmp_path / "kept") == found


def test_a_diverged_reference_run_has_no_scores(settings):
    recipe = settings.validation.resnet.model_copy(update={"rate": 1e30})
    validation = settings.validation.model_copy(update={"resnet": recipe})
    runs = resnet.observe(settings.model_copy(update={"validation": validation}))
    assert all(run.diverged_step is not None and run.test_error is None for run in runs)


def test_the_edge_bed_has_the_first_examples_standardised_per_input(settings):
    """Channels' moments, evenly spaced examples, or moments of the few examples alone."""
    bed = edge.edge_bed(settings, settings.validation.edge)
    images = tiny_gpu.images()
    every = torch.cat([images.train.x, images.validation.x]).flatten(1).double().numpy()
    expected = (every[:40] - every.mean(0)) / every.std(0)
    assert isinstance(bed.data.train, Arrays)
    np.testing.assert_allclose(bed.data.train.x.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(bed.data.train.y, images.train.y[:40])
    network = bed.build()
    assert [layer.out_features for layer in network.hidden] == [8, 8] and not network.skip
    assert (bed.training.loss, bed.training.precision) == ("squared_error", "float32")


def test_an_input_that_never_varies_is_left_centred():
    mean, deviation = edge.moments(torch.tensor([[[3, 0]], [[3, 8]]], dtype=torch.uint8))
    assert mean.tolist() == [3, 4] and deviation.tolist() == [1, 4]


def test_points_along_the_edge(settings):
    points = edge.observe(settings)
    assert {(point.rate, point.seed) for point in points} == {(r, s) for r in (0.02, 0.04) for s in (0, 1)}
    assert [point.step for point in points[:5]] == [0, 5, 10, 15, 20]
    assert points[-1].train_loss < points[-5].train_loss and all(point.sharpness > 0 for point in points)


@pytest.mark.parametrize(
    ("values", "wanted", "verdict"),
    [
        ([0.911, 0.912, 0.913], 3, "reproduced"),
        ([0.911, 0.912, 0.913], 4, "undecided"),  # one diverged
        ([0.890, 0.891, 0.892], 3, "not reproduced"),
        ([0.930, 0.931, 0.932], 3, "not reproduced"),
        ([0.900, 0.912, 0.924], 3, "undecided"),
        ([0.912], 1, "undecided"),  # no interval
        ([], 3, "undecided"),
    ],
)
def test_agreement(values, wanted, verdict):
    found = agreement.held_against(values, 0.907, 0.917, wanted)
    assert (found.verdict, found.n) == (verdict, len(values))


def test_the_edge_is_read_between_its_first_crossing_and_the_accuracy():
    """Readings before the edge or after the end of the published run, or of another rate's threshold."""
    rows = [(0.1, 0, 10 * i, sharp, error) for i, (sharp, error) in enumerate(LIVES)]
    rows += [(0.1, 1, 10 * i, 5.0, 0.5) for i in range(3)]  # never at the edge
    frame = pd.DataFrame(rows, columns=["rate", "seed", "step", "sharpness", "train_error"])
    found = agreement.at_the_edge(frame, 0.99).set_index("seed")
    assert found.ratio[0] == pytest.approx((1.05 + 0.95 + 1.0) / 3) and found.readings[0] == 3
    assert bool(found.reached[0]) and not bool(found.reached[1]) and pd.isna(found.ratio[1])


LIVES = [(10, 0.9), (18, 0.5), (21, 0.3), (19, 0.2), (20, 0.05), (40, 0.01), (60, 0.02)]


def test_images_and_network_of_the_references_must_be_there(tmp_path):
    path = tiny_gpu.written(tmp_path)
    path.write_text(path.read_text().replace("dataset: cifar10", "dataset: mnist1d"))
    with pytest.raises(config.ConfigError, match=r"needs a train\.resnet on cifar10 and a train\.mlp, found"):
        config.read(path)
