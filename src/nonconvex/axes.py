"""What every file of settings is made of: the frozen base, the kinds of numbers, and YAML without doubled keys."""

from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class Axis(BaseModel):
    """Base of all settings: frozen, and refuses a key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UniqueKeys(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, instead of letting the last one win."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        refuse_repeats("keys", keys)
        return super().construct_mapping(node, deep)


def refuse_repeats(name: str, values) -> None:
    if repeated := sorted({str(value) for value in values if list(values).count(value) > 1}):
        raise ValueError(f"{name} holds {', '.join(repeated)} more than once")
