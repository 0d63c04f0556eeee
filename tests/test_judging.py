"""Evidence to verdicts: signs, intervals, gates, controls and the adjustment over primaries."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_claims import CLAIM

from nonconvex import records
from nonconvex.claims import ClaimError, Gate, Ledger
from nonconvex.drawings.verdicts import REACH, forest
from nonconvex.judging import Verdict, evidence, judge
from nonconvex.paths import Results
from nonconvex.records import Effect, GateValue

BETTER = [-0.03, -0.02, -0.04, -0.03, -0.05]  # test errors that fall, as the claim says
NOTHING = [0.01, -0.01, 0.02, -0.02, 0.0]
GATE = Gate("rate_interior", "inside", low=1)


def ledger(*claims):
    return Ledger(claims or (CLAIM,), {"rate_interior": GATE}, {})


def effects(values=BETTER, control=NOTHING, claim=CLAIM.name):
    rows = [
        Effect(claim, role, seed, value)
        for role, part in (("claim", values), ("same_arm", control))
        for seed, value in enumerate(part)
    ]
    return pd.DataFrame(rows, columns=["claim", "role", "replicate", "value"])


def gates(value=1.0, claim=CLAIM.name):
    return pd.DataFrame([GateValue(claim, "rate_interior", value)])


def test_the_effect_is_turned_into_the_direction_of_the_claim():
    (found,) = judge(ledger(), effects(), gates())
    assert found.verdict == "supported" and found.estimate == pytest.approx(0.034)
    low, high = stats.t.interval(0.95, 4, loc=0.034, scale=stats.sem(BETTER))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(2 / 2**5)  # all five signs agree
    assert (found.n, found.seeds, found.gates_failed) == (5, 5, None)


def test_the_other_direction_is_a_reversal():
    (found,) = judge(ledger(replace(CLAIM, direction="higher")), effects(), gates())
    assert found.verdict == "reversed" and found.estimate == pytest.approx(-0.034)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"effects": effects(BETTER[:4])}, "seeds"),
        ({"effects": effects([])}, "seeds"),
        ({"gates": gates(0.0)}, "rate_interior"),
        ({"gates": gates(float("nan"))}, "rate_interior"),
        ({"effects": effects(control=BETTER)}, "same_arm"),
        ({"effects": effects(control=[])}, "same_arm"),
    ],
)
def test_a_failed_gate_decides_nothing_and_is_named(change, failed):
    (found,) = judge(**{"ledger": ledger(), "effects": effects(), "gates": gates()} | change)
    assert (found.verdict, found.gates_failed) == ("inconclusive", failed)


def test_an_equivalence_has_no_direction_and_its_own_p():
    claim = replace(CLAIM, kind="equivalence", margin=0.06, gates=())
    rows = effects(control=[])
    assert judge(ledger(claim), rows, gates()[:0])[0].verdict == "supported"
    assert judge(ledger(replace(claim, margin=0.001)), rows, gates()[:0])[0].verdict == "not supported"


def test_a_claim_without_any_evidence_is_inconclusive_and_says_why():
    (found,) = judge(ledger(CLAIM), effects()[:0], gates()[:0])
    assert (found.verdict, found.n, found.estimate) == ("inconclusive", 0, None)
    assert "rate_interior" in found.gates_failed


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        (effects(), gates()[:0], "rate_interior was not measured; strategy_sam"),
        (effects(claim="who.knows"), gates(), "evidence on who.knows"),
        (effects(), pd.concat([gates(), pd.DataFrame([GateValue(CLAIM.name, "new", 1.0)])]), "gates new measured"),
    ],
)
def test_evidence_that_does_not_fit_the_ledger_is_refused(rows, values, message):
    with pytest.raises(ClaimError, match=message):
        judge(ledger(), rows, values)


def test_holm_adjusts_over_primaries_alone():
    names = ["a", "b", "c"]
    claims = [replace(CLAIM, name=name, gates=(), primary=name != "c") for name in names]
    rng = np.random.default_rng(0)
    rows = pd.concat([effects(rng.normal(-0.02, 0.02, 5), [], name) for name in names])
    a, b, c = judge(ledger(*claims), rows, gates()[:0])
    smaller, larger = sorted([a.p, b.p])
    assert sorted([a.p_holm, b.p_holm]) == [min(1, 2 * smaller), max(min(1, 2 * smaller), larger)]
    assert c.p_holm is None


def test_verdicts_are_records_and_evidence_is_read_from_files(tmp_path):
    files = Results(tmp_path, "cpu")
    records.write(files.effects("strategy_sam"), [Effect(CLAIM.name, "claim", 3, 0.5)])
    records.write(files.gates("strategy_sam"), [], GateValue)
    rows, values = evidence(files)
    assert rows.value.tolist() == [0.5] and len(values) == 0
    records.write(files.verdicts(), judge(ledger(), effects(), gates()))
    assert records.read(files.verdicts(), Verdict).verdict.tolist() == ["supported"]


def test_the_forest_shows_effects_over_margins_and_leaves_out_what_has_no_interval():
    claims = [replace(CLAIM, name=name, gates=()) for name in ("a", "b", "c", "d")]
    parts = {"a": BETTER, "b": [value * 1000 for value in BETTER], "c": [0.01], "d": NOTHING}
    rows = pd.concat([effects(values, [], name) for name, values in parts.items()])
    axes = forest(pd.DataFrame(judge(ledger(*claims), rows, gates()[:0]))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "d"]
    shown = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in axes.containers}
    assert shown["supported"] == [[pytest.approx(3.4), 0], [REACH, 1]] and shown["inconclusive"] == [[0, 2]]


def test_evidence_that_two_notebooks_write_is_refused(tmp_path):
    """Replicates counted twice would narrow the interval."""
    files = Results(tmp_path, "cpu")
    for notebook in ("strategy_sam", "strategy_swa"):
        records.write(files.effects(notebook), [Effect(CLAIM.name, "claim", 3, 0.5)])
    with pytest.raises(ClaimError, match="found in two files"):
        evidence(files)
