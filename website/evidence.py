"""What is behind each claim, put together from the committed results: nothing is measured or judged here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nonconvex import claims, judging, records, statistics, typeset
from nonconvex.claims import CONTROLS, Claim, Gate, Ledger
from nonconvex.judging import SEEDS, Verdict
from nonconvex.paths import Results

CONTROL_STATEMENTS = {
    "same_arm": "control: the same contrast between arms that do not differ",
    "shuffled_labels": "control: the same contrast on shuffled labels",
}


@dataclass(frozen=True)
class GateRow:
    """One condition of a claim: what it asks, what was measured, and whether it held."""

    name: str
    statement: str
    allowed: str
    measured: str
    held: bool


@dataclass(frozen=True)
class Evidence:
    """A claim, its verdict, and the numbers that decided it; `roles` maps a role to its effects by replicate.

    Effects are signed so that positive is the text's direction, in the claim's unit.
    """

    claim: Claim
    verdict: Verdict
    roles: Mapping[str, Mapping[int, float]]
    gates: tuple[GateRow, ...]

    @property
    def effect(self) -> str:
        return measured(self.verdict)

    @property
    def rule(self) -> dict[str, Any]:
        """What static/rule.js needs to judge the claim at another margin."""
        found, control_names = self.verdict, [gate.name for gate in self.gates if gate.name in CONTROLS]
        return {
            "kind": found.kind,
            "estimate": found.estimate,
            "low": found.low,
            "high": found.high,
            "margin": found.margin,
            "failed": [gate.name for gate in self.gates if gate.name not in CONTROLS and not gate.held],
            "controls": [_control(name, self.roles.get(name, {})) for name in control_names],
        }


def gathered(files: Results, ledger: Ledger) -> list[Evidence]:
    """Every judged claim in the ledger's order. ClaimError where the verdicts are not those of these claims."""
    verdicts = records.read(files.verdicts(), Verdict)
    effects, gates = (dict(list(frame.groupby("claim"))) for frame in judging.evidence(files))
    registered = {claim.name: claim for claim in ledger.claims}
    if stale := registered.keys() ^ set(verdicts.claim):
        raise claims.ClaimError(
            f"{files.verdicts()} and the ledger differ in {', '.join(sorted(stale))}; dvc repro judges again"
        )
    found = []
    for row in verdicts.astype(object).where(verdicts.notna(), None).to_dict("records"):
        claim, verdict = registered[row["claim"]], Verdict(**row)
        roles = _roles(claim, effects.get(claim.name))
        values = {} if claim.name not in gates else dict(gates[claim.name][["gate", "value"]].to_numpy().tolist())
        found.append(Evidence(claim, verdict, roles, tuple(_gate_rows(ledger, claim, verdict, roles, values))))
    return found


def measured(found: Verdict) -> str:
    """The effect with its interval in words that the tables use too."""
    return typeset.interval(found.estimate, found.low, found.high, found.n) if found.n else typeset.NOTHING


def allowed(gate: Gate) -> str:
    """The limits of a gate: `≥ 1`, `≤ 0.05` or `0.9 to 1.2`."""
    if gate.low is None or gate.high is None:
        return f"≥ {gate.low:g}" if gate.high is None else f"≤ {gate.high:g}"
    return f"{gate.low:g} to {gate.high:g}"


def counted(verdicts: Iterable[str]) -> dict[str, int]:
    """How often each of the four words occurs."""
    seen = list(verdicts)
    return {word: seen.count(word) for word in claims.WORDS}


def _roles(claim: Claim, effects: pd.DataFrame | None) -> dict[str, dict[int, float]]:
    if effects is None:
        return {}
    return {
        role: {int(r): claim.sign * float(v) for r, v in zip(part.replicate, part.value, strict=True)}
        for role, part in effects.groupby("role", sort=False)
    }


def _gate_rows(ledger: Ledger, claim: Claim, verdict: Verdict, roles: Mapping, values: Mapping) -> Iterable[GateRow]:
    failed = (verdict.gates_failed or "").split(", ")
    yield GateRow(SEEDS, "replicates, of those registered", f"≥ {claim.seeds}", str(verdict.n), SEEDS not in failed)
    for name in claim.gates:
        held = name not in failed
        if name in CONTROLS:
            shown = _interval(roles.get(name, {}))
            yield GateRow(name, CONTROL_STATEMENTS[name], "not what the claim says", shown, held)
        else:
            gate, value = ledger.gates[name], values.get(name)
            shown = "not measurable" if value is None or pd.isna(value) else f"{value:.3g}"
            yield GateRow(name, gate.statement, allowed(gate), shown, held)


def _interval(values: Mapping[int, float]) -> str:
    found = statistics.mean(list(values.values()))
    return f"{typeset.interval(found.estimate, found.low, found.high, found.n or None)} (n = {found.n})"


def _control(name: str, values: Mapping[int, float]) -> dict[str, Any]:
    found = statistics.mean(list(values.values()))
    numbers = {key: None if pd.isna(v := getattr(found, key)) else v for key in ("estimate", "low", "high")}
    return {"name": name, "n": found.n, **numbers}
