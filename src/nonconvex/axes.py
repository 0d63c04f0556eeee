"""What every class of settings is made of: the frozen base and the kinds of numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class Axis(BaseModel):
    """Base of all settings: frozen, and refuses a key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
