"""The verdict rule: exhaustive, mutually exclusive, and blocked by a failed gate."""

from dataclasses import asdict, replace

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from nonconvex import records
from nonconvex.claims import Claim, ClaimError, Verdict, equivalence, judge, overall, read, verdict
from nonconvex.statistics import Interval

CLAIM = Claim(
    name="E5b",
    row="strategies: sam",
    statement="SAM generalises better at equal steps",
    source="Foret 2021",
    kind="contrast",
    contrast="test error, sam minus none",
    direction="lower",
    margin=0.01,
    gates=("interior rate",),
    notebook="strategy_sam",
)
NUMBER = st.floats(-3, 3)
LIMITS = st.lists(NUMBER, min_size=3, max_size=3).map(sorted)
MARGIN = st.floats(0, 2)


@given(LIMITS, MARGIN)
def test_contrast_words_exclude_one_another_and_leave_nothing_out(limits, margin):
    low, estimate, high = limits
    rules = {
        "supported": low > 0 and estimate >= margin,
        "not supported": high < margin and high >= 0,
        "reversed": high < margin and high < 0,
    }
    assert sum(rules.values()) <= 1
    expected = next((word for word, holds in rules.items() if holds), "inconclusive")
    assert verdict(estimate, low, high, margin) == expected


@given(LIMITS, st.floats(0.01, 2))
def test_equivalence_words_exclude_one_another(limits, margin):
    low, _, high = limits
    assume(low < high)
    inside = -margin < low and high < margin
    outside = low >= margin or high <= -margin
    assert not (inside and outside)
    expected = "supported" if inside else "not supported" if outside else "inconclusive"
    assert equivalence(low, high, margin) == expected


@pytest.mark.parametrize(
    ("estimate", "low", "high", "word"),
    [
        (1.0, 0.5, 1.5, "supported"),
        (1.0, 0.0, 2.0, "inconclusive"),  # the interval touches zero
        (0.9, 0.5, 1.3, "inconclusive"),  # positive, but below the margin and not excluded from reaching it
        (0.5, 0.2, 0.8, "not supported"),  # positive, and surely below the margin
        (0.0, -0.5, 0.5, "not supported"),
        (-1.0, -1.5, -0.5, "reversed"),
        (0.0, -2.0, 2.0, "inconclusive"),
        (1.0, float("nan"), float("nan"), "inconclusive"),
    ],
)
def test_contrast_by_hand(estimate, low, high, word):
    assert verdict(estimate, low, high, margin=1.0) == word


@given(LIMITS, MARGIN)
def test_a_failed_gate_decides_nothing(limits, margin):
    low, estimate, high = limits
    assert verdict(estimate, low, high, margin, [True, False]) == "inconclusive"
    assert equivalence(low, high, margin, [False]) == "inconclusive"


def test_direction_turns_the_effect():
    better = Interval(-0.03, -0.05, -0.02, 10)
    found = judge(CLAIM, better, {"interior rate": True})
    assert found == Verdict("E5b", "supported", 0.03, 0.02, 0.05, 10, 0.01, None)
    assert judge(replace(CLAIM, direction="higher"), better, {"interior rate": True}).verdict == "reversed"
    same = replace(CLAIM, kind="equivalence", margin=0.06)
    assert judge(same, better, {"interior rate": True}).verdict == "supported"


def test_gates_must_be_those_of_the_claim():
    effect = Interval(-0.03, -0.05, -0.02, 10)
    found = judge(CLAIM, effect, {"interior rate": False})
    assert (found.verdict, found.gates_failed) == ("inconclusive", "interior rate")
    for gates in ({}, {"interior rate": True, "other": True}):
        with pytest.raises(ClaimError, match=r"E5b: gates .* allowed"):
            judge(CLAIM, effect, gates)


def test_claims_are_read_and_refused_by_name(tmp_path):
    path = tmp_path / "claims.yaml"
    entry = {key: value for key, value in asdict(CLAIM).items() if key != "name"} | {"gates": ["interior rate"]}
    path.write_text(yaml.safe_dump({"E5b": entry}))
    assert read(path) == (CLAIM,)
    for change, message in (
        ({"kind": "guess"}, "kind 'guess' found, contrast or equivalence allowed"),
        ({"direction": "up"}, "direction 'up' found"),
        ({"margin": -1}, "margin -1 found"),
        ({"kind": "equivalence", "margin": 0}, "margin 0 found"),
        ({"verdict": "supported"}, "unknown keys ['verdict']"),
    ):
        path.write_text(yaml.safe_dump({"E5b": entry | change}))
        with pytest.raises(ClaimError) as error:
            read(path)
        assert message in str(error.value) and "E5b" in str(error.value)


def test_verdicts_are_records(tmp_path):
    rows = [judge(CLAIM, Interval(-0.03, -0.05, -0.02, 10), {"interior rate": True})]
    records.write(tmp_path / "verdicts.csv", rows)
    assert records.read(tmp_path / "verdicts.csv", Verdict)["verdict"].tolist() == ["supported"]


def test_sub_claims_that_differ_are_mixed():
    assert overall(["supported", "supported"]) == "supported"
    assert overall(["supported", "reversed"]) == "mixed"
