"""Which runs a stage needs, how rates are chosen and how members are dealt into cohorts."""

from types import SimpleNamespace as Bag

from hypothesis import given
from hypothesis import strategies as st

from nonconvex.plan import Member, baseline_arms, chosen_rates, dealt, reported_members, tuning_members

SETTINGS = Bag(
    grid=Bag(
        schedules=("constant", "cosine"), strategies=("none", "sam"), baseline=Bag(schedule="cosine", strategy="none")
    ),
    seeds=Bag(reported=(0, 1, 2), cross=(0, 1), connected=(0,), tuning=(9, 8)),
    train={"resnet": Bag(rates=(0.1, 0.2))},
)


def test_tuning_covers_the_grid_and_no_reported_seed():
    members = tuning_members(SETTINGS, "resnet", "sam")
    assert len(members) == len(set(members)) == 2 * 2 * 2
    assert {m.seed for m in members} == {8, 9} and {m.phase for m in members} == {"tuning"}


def test_reported_seeds_depend_on_the_baseline():
    """More seeds on the row and the column through the baseline, fewer in the rest; siblings only on the former."""
    count = lambda strategy, schedule, phase: sum(  # noqa: E731
        (m.schedule, m.phase) == (schedule, phase)
        for m in reported_members(SETTINGS, strategy, {"constant": 0.1, "cosine": 0.2})
    )
    assert [count("none", s, "reported") for s in ("constant", "cosine")] == [3, 3]
    assert [count("sam", s, "reported") for s in ("constant", "cosine")] == [2, 3]
    assert [count("sam", s, "sibling") for s in ("constant", "cosine")] == [0, 1]
    assert baseline_arms(SETTINGS) == [("none", "constant"), ("none", "cosine"), ("sam", "cosine")]


def test_without_seeds_for_the_cross_the_grid_is_its_row_and_its_column():
    """Tuning runs for arms that nobody reports, or a baseline without them."""
    outer = Bag(**{**vars(SETTINGS), "seeds": Bag(**{**vars(SETTINGS.seeds), "cross": ()})})
    tuned = {name: {m.schedule for m in tuning_members(outer, "resnet", name)} for name in SETTINGS.grid.strategies}
    assert tuned == {"none": {"constant", "cosine"}, "sam": {"cosine"}}
    assert {m.schedule for m in reported_members(outer, "sam", {"cosine": 0.2})} == {"cosine"}
    assert len(tuning_members(outer, "resnet", "none")) == len(tuning_members(SETTINGS, "resnet", "none"))


def test_chosen_rate_has_the_lowest_mean_and_divergence_never_wins():
    run = lambda rate, loss: Bag(schedule="cosine", rate=rate, validation_loss=loss)  # noqa: E731
    runs = [run(0.1, 1.0), run(0.1, 3.0), run(0.2, 1.5), run(0.2, 2.0), run(0.4, 0.1), run(0.4, None)]
    assert chosen_rates(runs) == {"cosine": 0.2}


@given(n=st.integers(1, 90), cohort=st.integers(1, 20))
def test_every_member_is_dealt_once_into_balanced_cohorts(n, cohort):
    members = [Member("cosine", 0.1, seed, "reported") for seed in range(n)]
    parts = dealt(members, cohort)
    assert sorted(m.seed for part in parts for m in part) == list(range(n))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= cohort and max(sizes) - min(sizes) <= 1
    assert len(parts) == 1 or len(parts) % 2 == 0 or n < len(parts)


def test_dealing_is_stable():
    members = [Member("cosine", 0.1, seed, "reported") for seed in range(7)]
    assert [[m.seed for m in part] for part in dealt(members, 4)] == [[0, 2, 4, 6], [1, 3, 5]]
    assert dealt(members, 7) == [members]
