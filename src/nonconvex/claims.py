"""The pre-registered claims: read, check, judge.

Every claim fixes, before the runs, an effect d (positive in the claim's direction), a margin (the smallest
effect of interest, in the effect's unit) and gates (conditions without which the runs cannot decide).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import yaml

from nonconvex.statistics import Interval

SUPPORTED, NOT_SUPPORTED, REVERSED, INCONCLUSIVE = "supported", "not supported", "reversed", "inconclusive"
MIXED = "mixed"
KINDS = ("contrast", "equivalence")
DIRECTIONS = {"higher": 1, "lower": -1}


class ClaimError(ValueError):
    """A claims file, or a judgement, that lacks what the rule needs."""


@dataclass(frozen=True)
class Claim:
    """One sentence of the text as a decision that the runs can make.

    `contrast` says in words which difference of which quantity the effect is; `direction` whether the claim
    says that it is higher or lower than zero (an equivalence has both and ignores it).
    """

    name: str
    row: str
    statement: str
    source: str
    kind: str
    contrast: str
    direction: str
    margin: float
    gates: tuple[str, ...]
    notebook: str

    def __post_init__(self) -> None:
        _allow(self.name, "kind", self.kind, KINDS)
        _allow(self.name, "direction", self.direction, DIRECTIONS)
        if not self.margin >= 0 or (self.kind == "equivalence" and self.margin == 0):
            raise ClaimError(f"{self.name}: margin {self.margin} found, a number >= 0 (equivalence: > 0) allowed")


@dataclass(frozen=True)
class Verdict:
    """What a notebook decides; estimate and limits are signed so that positive is the claim's direction."""

    KEY: ClassVar = ("claim",)
    claim: str
    verdict: Literal["supported", "not supported", "reversed", "inconclusive"]
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    margin: float
    gates_failed: str | None


def verdict(estimate: float, low: float, high: float, margin: float, gates: Iterable[bool] = ()) -> str:
    """The rule for a contrast d with 95 % interval [l, u] and margin delta: exactly one of four words.

    supported: l > 0 and d >= delta; not supported: u < delta, called reversed where u < 0; inconclusive:
    otherwise, where a gate failed, or where a limit is missing (NaN).
    """
    if not all(gates):
        return INCONCLUSIVE
    if low > 0 and estimate >= margin:
        return SUPPORTED
    if high < margin:
        return REVERSED if high < 0 else NOT_SUPPORTED
    return INCONCLUSIVE


def equivalence(low: float, high: float, margin: float, gates: Iterable[bool] = ()) -> str:
    """The rule for equality: supported if [l, u] is within (-delta, delta), not if it is outside."""
    if not all(gates):
        return INCONCLUSIVE
    if -margin < low and high < margin:
        return SUPPORTED
    if low >= margin or high <= -margin:
        return NOT_SUPPORTED
    return INCONCLUSIVE


def judge(claim: Claim, effect: Interval, gates: Mapping[str, bool]) -> Verdict:
    """The verdict on an effect, unsigned by direction. ClaimError unless `gates` are the claim's."""
    if set(gates) != set(claim.gates):
        found, allowed = ", ".join(sorted(gates)) or "none", ", ".join(sorted(claim.gates)) or "none"
        raise ClaimError(f"{claim.name}: gates {found} found, {allowed} allowed")
    estimate, low, high = _signed(effect, DIRECTIONS[claim.direction] if claim.kind == "contrast" else 1)
    if claim.kind == "contrast":
        word = verdict(estimate, low, high, claim.margin, gates.values())
    else:
        word = equivalence(low, high, claim.margin, gates.values())
    failed = ", ".join(name for name in claim.gates if not gates[name])
    return Verdict(claim.name, word, estimate, low, high, effect.n, claim.margin, failed or None)


def overall(verdicts: Iterable[str]) -> str:
    """One word for a row with sub-claims: theirs if they agree, else mixed."""
    words = set(verdicts)
    return words.pop() if len(words) == 1 else MIXED


def read(path: Path) -> tuple[Claim, ...]:
    """The claims in a YAML file, a mapping from name to the fields of `Claim`.

    Raises ClaimError naming the claim and what is missing or unknown.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return tuple(_claim(name, entry) for name, entry in content.items())


def _claim(name: str, entry: Mapping) -> Claim:
    allowed = {field.name for field in fields(Claim)} - {"name"}
    if set(entry) != allowed:
        unknown, missing = sorted(set(entry) - allowed), sorted(allowed - set(entry))
        raise ClaimError(
            f"{name}: unknown keys {unknown}, missing keys {missing}; allowed: {', '.join(sorted(allowed))}"
        )
    return Claim(name=name, **{**entry, "gates": tuple(entry["gates"])})


def _signed(effect: Interval, sign: int) -> tuple[float, float, float]:
    limits = (sign * effect.low, sign * effect.high)
    return sign * effect.estimate, *(limits if sign > 0 else limits[::-1])


def _allow(name: str, key: str, found: str, allowed: Iterable[str]) -> None:
    if found not in allowed:
        raise ClaimError(f"{name}: {key} {found!r} found, {' or '.join(allowed)} allowed")
