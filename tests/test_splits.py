"""Batches are pure functions of (seed, step) and cover every example once per epoch."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from nonconvex.data.splits import Arrays, Dataset, Windows, draws, permutation, spaced


@pytest.fixture
def arrays():
    """Twenty examples whose target tells which example they are."""
    return Arrays(torch.arange(40.0).view(20, 2), torch.arange(20))


@pytest.fixture
def windows():
    """A text whose every token is its own place."""
    return Windows(torch.arange(100), 7)


def test_an_epoch_shows_every_example_once_and_drops_the_ragged_rest(arrays):
    """A batch that repeats within an epoch, or an epoch boundary in the wrong place."""
    seen = [torch.cat([arrays.batch([5], step, 6)[1][0] for step in steps]) for steps in ([0, 1, 2], [3, 4, 5])]
    assert all(len(set(epoch.tolist())) == 18 for epoch in seen)
    assert seen[0].tolist() != seen[1].tolist()


def test_targets_stay_with_their_examples(arrays):
    x, y = arrays.batch([1, 2], 3, 4)
    assert x.shape == (2, 4, 2) and y.shape == (2, 4)
    assert torch.equal(x[..., 0], 2.0 * y)


@pytest.mark.parametrize("split", ["arrays", "windows"])
def test_a_batch_is_a_function_of_seed_and_step_alone(split, request):
    """A generator that carries state from call to call, or a draw that depends on the neighbours."""
    split = request.getfixturevalue(split)
    together = split.batch([3, 4, 5], 7, 5)
    split.batch([9], 1, 5)
    alone = split.batch([4], 7, 5)
    assert all(torch.equal(one[0], many[1]) for one, many in zip(alone, together, strict=True))
    assert not torch.equal(together[1][0], together[1][1])
    assert not torch.equal(split.batch([4], 8, 5)[1], alone[1])


def test_draws_are_frozen():
    """Another layout of key and counter, which would silently change every training run."""
    assert [hex(value) for value in draws(2, 7, 9, 1)] == ["0x1565ee8d42e003d5", "0x209e251bcd4a4eda"]
    assert permutation(8, 3, 1).tolist() == [0, 2, 6, 7, 5, 3, 4, 1]


def test_streams_seeds_and_steps_are_unrelated():
    """Shared numbers between data order and augmentation, or seed + step in place of a pair."""
    keys = [(1, 2, 1), (2, 1, 1), (1, 2, 2), (0, 3, 1), (3, 0, 1), (1 << 40, 2, 1)]
    found = [draws(64, *key).tolist() for key in keys]
    assert len({value for values in found for value in values}) == 64 * len(keys)


def test_permutations_are_uniform():
    """A biased shuffle: the place of example 0 among 8; one layout of the streams in 10,000 would fail."""
    places = [permutation(8, seed, 0).tolist().index(0) for seed in range(4000)]
    assert chisquare(np.bincount(places, minlength=8)).pvalue > 1e-4


def test_permutations_cannot_be_spoiled():
    """A caller that writes into the cached permutation would change the batches of everyone after it."""
    with pytest.raises(ValueError, match="read-only"):
        permutation(8, 1, 1)[0] = 3


def test_examples_are_evenly_spaced(arrays):
    x, y = arrays.examples(5)
    assert y.tolist() == [0, 4, 8, 12, 16] and torch.equal(x[:, 0], 2.0 * y)
    assert arrays.examples()[1].tolist() == list(range(20))
    assert spaced(3, 4).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda split: split.batch([0], 0, 21), "batch_size is 21; allowed: 1 to 20"),
        (lambda split: split.batch([0], 0, 0), "batch_size is 0; allowed: 1 to 20"),
        (lambda split: split.examples(21), "21 examples wanted; allowed: 1 to 20"),
        (lambda split: Windows(split.y, 20), "context is 20; allowed: 1 to 19"),
    ],
)
def test_impossible_sizes_are_refused(arrays, call, message):
    with pytest.raises(ValueError, match=message):
        call(arrays)


def test_windows_predict_the_next_token(windows):
    """Targets shifted by no place or by two."""
    assert len(windows) == 93
    for x, y in (windows.batch([1, 2], 3, 50), windows.examples(10), windows.examples()):
        assert torch.equal(y, x + 1) and torch.equal(x[..., 1:], y[..., :-1]) and x.dtype == torch.int64
    assert windows.batch([1, 2], 3, 50)[0].shape == (2, 50, 7)
    assert windows.examples(10)[0][:, 0].tolist() == [i * 93 // 10 for i in range(10)]


def test_all_windows_cover_the_text_once(windows):
    """Evaluation that counts some characters twice."""
    y = windows.examples()[1]
    assert y.flatten().tolist() == list(range(1, 99))


def test_windows_are_drawn_uniformly_up_to_the_last():
    """An offset that never reaches the end of the text, or one beyond it."""
    split = Windows(torch.arange(12, dtype=torch.uint8), 4)
    starts = split.batch([0], 0, 8000)[0][0, :, 0]
    assert chisquare(torch.bincount(starts, minlength=8).numpy()).pvalue > 1e-4


def test_a_dataset_moves_as_a_whole(arrays):
    moved = Dataset("toy", arrays, arrays, Windows(torch.arange(9), 2), 20).to("meta")
    assert {moved.train.x.device.type, moved.validation.y.device.type, moved.test.tokens.device.type} == {"meta"}
    assert (moved.name, moved.classes) == ("toy", 20)
