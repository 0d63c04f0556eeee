"""The verdict rule: exhaustive, mutually exclusive, and blocked by a failed gate."""

from dataclasses import asdict

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from nonconvex.claims import Claim, ClaimError, Gate, Ledger, equivalence, overall, read, verdict

CLAIM = Claim(
    name="sam.equal_steps.resnet",
    table="strategies",
    row="sam",
    part="observation",
    statement="SAM generalises better at equal steps",
    source="Foret 2021",
    bed="ResNet",
    kind="contrast",
    contrast="test error, sam minus none",
    direction="lower",
    margin=0.01,
    unit="share",
    seeds=5,
    gates=("rate_interior", "same_arm"),
    primary=True,
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


@pytest.mark.parametrize(
    ("value", "holds"), [(1.0, True), (0.05, True), (1.0001, False), (0.0, False), (None, False), (float("nan"), False)]
)
def test_a_gate_is_a_closed_range_and_what_is_not_measured_fails(value, holds):
    assert Gate("share", "a share", low=0.05, high=1.0).holds(value) is holds


def test_a_gate_may_be_open_on_one_side():
    assert Gate("residual", "small", high=0.05).holds(-1e9) and Gate("count", "many", low=3).holds(1e9)


def written(path, **changes):
    entry = {key: value for key, value in asdict(CLAIM).items() if key != "name"} | {
        "gates": ["rate_interior", "same_arm"]
    }
    content = {
        "pilots": {"sam": "none"},
        "gates": {"rate_interior": {"statement": "inside", "low": 1}},
        "claims": {CLAIM.name: entry | changes},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_ledger_is_read(tmp_path):
    gate = Gate("rate_interior", "inside", low=1)
    assert read(written(tmp_path / "claims.yaml")) == Ledger((CLAIM,), {"rate_interior": gate}, {"sam": "none"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "guess"}, "kind 'guess' found, contrast or equivalence allowed"),
        ({"direction": "up"}, "direction 'up' found"),
        ({"table": "rows"}, "table 'rows' found"),
        ({"margin": -1}, "margin -1 found"),
        ({"margin": "5e-4"}, "margin 5e-4 found"),
        ({"kind": "equivalence", "margin": 0, "gates": []}, "margin 0 found"),
        ({"kind": "equivalence"}, "are for contrasts"),
        ({"seeds": 1}, "seeds 1 found"),
        ({"seeds": "10"}, "seeds '10' found"),
        ({"margin": float("inf")}, "margin inf found"),
        ({"row": "sam_"}, "row 'sam_' found, sgd_noise or warmup"),
        ({"gates": ["unheard_of"]}, "gate 'unheard_of' found"),
        ({"verdict": "supported"}, "unknown keys ['verdict']"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ClaimError) as error:
        read(written(tmp_path / "claims.yaml", **change))
    assert message in str(error.value) and CLAIM.name in str(error.value)


def test_a_missing_key_is_named(tmp_path):
    path = written(tmp_path / "claims.yaml")
    content = yaml.safe_load(path.read_text())
    del content["claims"][CLAIM.name]["margin"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ClaimError, match=r"missing keys \['margin'\]"):
        read(path)


def test_sub_claims_that_differ_are_mixed():
    assert overall(["supported", "supported"]) == "supported"
    assert overall(["supported", "reversed"]) == "mixed"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("claims:\n", "claims:\n  sam.equal_steps.resnet: {}\n", "key sam.equal_steps.resnet given twice"),
        ("pilots:", "pilot:", "['claims', 'gates', 'pilot'] found, the mappings pilots, gates, claims allowed"),
        ("low: 1", "", "gate rate_interior: no limit found"),
        ("claims:", "claims: [", "claims.yaml: "),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, old, new, message):
    """A claim written twice would otherwise be judged by whichever stands last."""
    path = written(tmp_path / "claims.yaml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ClaimError) as error:
        read(path)
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ClaimError, match=r"claims\.yaml"):
        read(tmp_path / "claims.yaml")
