"""From what the notebooks found to one verdict per claim: intervals, controls, gates, and then the rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from nonconvex import records, statistics
from nonconvex.claims import CONTROLS, SUPPORTED, Claim, ClaimError, Ledger, equivalence, verdict
from nonconvex.paths import Results
from nonconvex.records import Count, Effect, GateValue
from nonconvex.statistics import Interval

SEEDS = "seeds"  # the gate of every claim: as many replicates as were registered


@dataclass(frozen=True)
class Verdict:
    """A claim and what the runs say: estimate and limits are signed so that positive is the text's direction.

    `p` is the two-sided sign-flip p of a contrast, and of an equivalence the p against "outside the margins";
    `p_holm` is p adjusted over all primary claims, for information: the rule does not use it.
    """

    KEY: ClassVar = ("claim",)
    claim: str
    table: Literal["properties", "factors", "strategies", "schedules", "prose"]
    row: str
    part: Literal["observation", "implication"]
    statement: str
    source: str
    bed: str
    contrast: str
    kind: Literal["contrast", "equivalence"]
    primary: Literal["yes", "no"]
    verdict: Literal["supported", "not supported", "reversed", "inconclusive"]
    estimate: float | None
    low: float | None
    high: float | None
    margin: float
    unit: str
    n: Count
    seeds: Count
    p: float | None
    p_holm: float | None
    gates: str
    gates_failed: str | None
    notebook: str


def evidence(files: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(effects, gates) of all notebooks."""
    return _all(files.every("effects"), Effect), _all(files.every("gates"), GateValue)


def judge(ledger: Ledger, effects: pd.DataFrame, gates: pd.DataFrame) -> list[Verdict]:
    """One verdict per claim, in the ledger's order. ClaimError for evidence on a claim that is not there."""
    known = {claim.name for claim in ledger.claims}
    if unknown := sorted({*effects.claim, *gates.claim} - known):
        raise ClaimError(f"evidence on {', '.join(unknown)}; no such claim is registered")
    return _with_holm([_judged(ledger, claim, effects, gates) for claim in ledger.claims])


def _judged(ledger: Ledger, claim: Claim, effects: pd.DataFrame, gates: pd.DataFrame) -> Verdict:
    values = _replicates(effects, claim, "claim")
    found, held = statistics.mean(values), _gates(ledger, claim, effects, gates, len(values))
    failed = [name for name, holds in held.items() if not holds]
    estimate, low, high = (None if np.isnan(v) else float(v) for v in (found.estimate, found.low, found.high))
    differing = ("name", "direction", "primary", "gates")
    return Verdict(
        claim=claim.name,
        **{key: value for key, value in vars(claim).items() if key not in differing},
        primary="yes" if claim.primary else "no",
        verdict=_word(claim, found, held.values()),  # type: ignore[arg-type]  # one of claims.WORDS
        estimate=estimate,
        low=low,
        high=high,
        n=found.n,
        p=_p(claim, values),
        p_holm=None,
        gates=", ".join(held),
        gates_failed=", ".join(failed) or None,
    )


def _replicates(effects: pd.DataFrame, claim: Claim, role: str) -> np.ndarray:
    """The effects d of a claim or of one of its controls."""
    return claim.sign * effects[(effects.claim == claim.name) & (effects.role == role)].value.to_numpy(float)


def _gates(ledger: Ledger, claim: Claim, effects: pd.DataFrame, gates: pd.DataFrame, n: int) -> dict[str, bool]:
    measured = gates[gates.claim == claim.name].set_index("gate").value
    held = {SEEDS: n >= claim.seeds}
    for name in claim.gates:
        if name in CONTROLS:
            held[name] = _control_holds(claim, _replicates(effects, claim, name))
        elif name in measured:
            held[name] = ledger.gates[name].holds(measured[name])
        elif not n:  # nothing was observed: a profile may leave a claim's bed out
            held[name] = False
        else:
            raise ClaimError(f"{claim.name}: gate {name} was not measured; {claim.notebook} has to write it")
    if unknown := sorted(set(measured.index) - set(claim.gates)):
        raise ClaimError(
            f"{claim.name}: gates {', '.join(unknown)} measured, {', '.join(claim.gates) or 'none'} allowed"
        )
    return held


def _control_holds(claim: Claim, values: np.ndarray) -> bool:
    """Whether there is a control and the rule does not find in it what the claim says."""
    return len(values) > 1 and _word(claim, statistics.mean(values), ()) != SUPPORTED


def _word(claim: Claim, found: Interval, held) -> str:
    if claim.kind == "equivalence":
        return equivalence(found.low, found.high, claim.margin, held)
    return verdict(found.estimate, found.low, found.high, claim.margin, held)


def _p(claim: Claim, values: np.ndarray) -> float | None:
    if len(values) < 2:
        return None
    if claim.kind == "equivalence":
        return statistics.tost(values, claim.margin)
    return statistics.sign_flip(values, np.random.Generator(np.random.Philox(0)))


def _with_holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    judged = {v.claim: v.p for v in verdicts if v.primary == "yes" and v.p is not None}
    by_claim = dict(zip(judged, statistics.holm(list(judged.values())).tolist(), strict=True))
    return [replace(v, p_holm=by_claim.get(v.claim)) for v in verdicts]


def _all(paths: Sequence[Path], kind: type[Any]) -> pd.DataFrame:
    """The rows of all files. ClaimError where two notebooks write the same one: it would count twice."""
    frames = [records.read(path, kind) for path in paths]
    rows = pd.concat(frames, ignore_index=True) if frames else records.empty(kind)
    if (twice := rows.duplicated(list(kind.KEY))).any():
        names = ", ".join(sorted(set(rows[twice].claim)))
        raise ClaimError(f"evidence on {names} found in two files, one allowed")
    return rows
