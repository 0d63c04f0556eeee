"""What every file of settings is made of: the frozen base, the kinds of numbers, and YAML read with suspicion."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

LARGEST = 10**9  # of any count; a number of steps or examples beyond it is a slip of the pen
DEEPEST = 20  # nesting of a file of settings; its own structure needs eight

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class Axis(BaseModel):
    """Base of all settings: frozen, and refuses a key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml may be missing
    """Safe YAML that refuses a key given twice, instead of letting the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """The mapping; ConstructorError for a key given twice."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key} given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parsed(text: str) -> Any:
    """What a YAML text of settings holds. Raises ValueError in one line, for an alias and for deep nesting too.

    A few lines of aliases to aliases stand for more text than fits into memory.
    """
    try:
        _refuse_bombs(text)
        return yaml.load(text, UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        context = f", {error.context}" if error.context else ""
        raise ValueError(f"{where}{error.problem}{context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _refuse_bombs(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, UniqueKeys):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        alias = f"alias *{event.anchor} found, none" if isinstance(event, yaml.AliasEvent) else ""
        if alias or depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise ValueError(f"line {line}: {alias or f'nesting above {DEEPEST} found, less'} allowed")


def refuse_repeats(name: str, values: Iterable) -> None:
    """ValueError for a value that is there more than once."""
    if repeated := sorted(value for value, count in Counter(map(str, values)).items() if count > 1):
        raise ValueError(f"{name} holds {', '.join(repeated)} more than once")
