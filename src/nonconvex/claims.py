"""The pre-registered claims: read, check, and the rule that judges one.

Every claim fixes, before the runs, an effect d (positive in the claim's direction), a margin (the smallest
effect of interest, in the effect's unit), the number of replicates and gates (conditions without which the runs
cannot decide). `nonconvex.judging` applies the rule to what the notebooks found.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from nonconvex.axes import UniqueKeys
from nonconvex.source_tables import SOURCE_TABLES

SUPPORTED, NOT_SUPPORTED, REVERSED, INCONCLUSIVE = "supported", "not supported", "reversed", "inconclusive"
WORDS = (SUPPORTED, NOT_SUPPORTED, REVERSED, INCONCLUSIVE)
MIXED = "mixed"
DIRECTIONS = {"higher": 1, "lower": -1}
ALLOWED = {
    "table": tuple(SOURCE_TABLES),
    "part": ("observation", "implication"),
    "kind": ("contrast", "equivalence"),
    "direction": tuple(DIRECTIONS),
    "primary": (True, False),
}
SECTIONS = ("pilots", "gates", "claims")
CONTROLS = ("same_arm", "shuffled_labels")  # gates that are contrasts themselves, with nothing to find


class ClaimError(ValueError):
    """A claims file, or evidence on a claim, that lacks what the rule needs."""


@dataclass(frozen=True)
class Gate:
    """A condition on something measured: it holds where the value lies in [low, high]."""

    name: str
    statement: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ClaimError(
                f"gate {self.name}: no limit found, low, high or both allowed; without one it always holds"
            )

    def holds(self, value: float | None) -> bool:
        """False for a value that could not be measured (None or NaN)."""
        if value is None or value != value:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True)
class Claim:
    """One sentence of the text on one test bed, as a decision that the runs can make.

    `contrast` says in words which difference of which quantity the effect is; `direction` whether the claim
    says that it is higher or lower than zero (an equivalence says that it is zero, and ignores it). `seeds` is the
    number of replicates that was registered: fewer cannot decide.
    """

    name: str
    table: str
    row: str
    part: str
    statement: str
    source: str
    bed: str
    kind: str
    contrast: str
    direction: str
    margin: float
    unit: str
    seeds: int
    gates: tuple[str, ...]
    primary: bool
    notebook: str

    def __post_init__(self) -> None:
        for key, allowed in ALLOWED.items():
            _allow(self.name, key, getattr(self, key), allowed)
        _allow(self.name, "row", self.row, [row.key for row in SOURCE_TABLES[self.table].rows])
        number = isinstance(self.margin, int | float) and 0 <= self.margin < math.inf
        if not number or (self.kind == "equivalence" and self.margin == 0):
            raise ClaimError(
                f"{self.name}: margin {self.margin} found, a finite number >= 0 (equivalence: > 0) allowed"
            )
        if not isinstance(self.seeds, int) or self.seeds < 2:
            raise ClaimError(
                f"{self.name}: seeds {self.seeds!r} found, a whole number from 2 allowed: one has no interval"
            )
        if self.kind == "equivalence" and set(self.gates) & set(CONTROLS):
            raise ClaimError(f"{self.name}: gates {', '.join(CONTROLS)} are for contrasts, found at an equivalence")

    @property
    def sign(self) -> int:
        """What turns the contrast into the effect d."""
        return DIRECTIONS[self.direction] if self.kind == "contrast" else 1


@dataclass(frozen=True)
class Ledger:
    """Everything that was registered: the claims, their gates, and the pilots that were seen before."""

    claims: tuple[Claim, ...]
    gates: Mapping[str, Gate]
    pilots: Mapping[str, str]  # study -> what was run and seen


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


def overall(verdicts: Iterable[str]) -> str:
    """One word for a row with sub-claims: theirs if they agree, else mixed."""
    words = set(verdicts)
    return words.pop() if len(words) == 1 else MIXED


def read(path: Path) -> Ledger:
    """The ledger in a YAML file with the keys pilots, gates and claims; the latter two map names to fields.

    Raises ClaimError naming the file, claim or gate and what is missing, unknown, double or not allowed.
    """
    content = _sections(path)
    gates = {name: _built(Gate, name, entry) for name, entry in content["gates"].items()}
    entries = {name: {**entry, "gates": tuple(entry.get("gates", ()))} for name, entry in content["claims"].items()}
    claims = tuple(_built(Claim, name, entry) for name, entry in entries.items())
    for claim in claims:
        for gate in claim.gates:
            _allow(claim.name, "gate", gate, (*CONTROLS, *gates))
    return Ledger(claims, gates, content["pilots"])


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise ClaimError(f"{path}: {error}") from None
    found = sorted(content) if isinstance(content, dict) else type(content).__name__
    if found != sorted(SECTIONS) or not all(isinstance(part, dict) for part in content.values()):
        raise ClaimError(f"{path}: {found} found, the mappings {', '.join(SECTIONS)} allowed")
    return content


def _built(kind: type, name: str, entry: Mapping[str, Any]) -> Any:
    known = {field.name: field.default is not MISSING for field in fields(kind) if field.name != "name"}
    unknown = sorted(set(entry) - set(known))
    missing = sorted(key for key, optional in known.items() if not optional and key not in entry)
    if unknown or missing:
        raise ClaimError(f"{name}: unknown keys {unknown}, missing keys {missing}; allowed: {', '.join(known)}")
    return kind(name=name, **entry)


def _allow(name: str, key: str, found: Any, allowed: Iterable[Any]) -> None:
    if found not in allowed:
        raise ClaimError(f"{name}: {key} {found!r} found, {' or '.join(map(str, allowed))} allowed")
