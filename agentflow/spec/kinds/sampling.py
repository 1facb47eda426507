"""Options that llm nodes and their sources share: ranges of sampling, and when work spills over."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from agentflow.spec.kinds.base import OptionsModel


def _of_64_bits(seed: int) -> int:
    if not -(2**63) <= seed < 2**63:
        raise ValueError("expected a whole number of 64 bits")
    return seed


Temperature = Annotated[float, Field(ge=0, le=2)]
Tokens = Annotated[int, Field(ge=1)]
TopP = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, AfterValidator(_of_64_bits)]
_Text = Annotated[str, Field(min_length=1)]
Stop = _Text | list[_Text]
_Wait = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Spill(OptionsModel):
    """When calls move on to another source, before the first one has failed."""

    to: _Text | None = Field(
        None, description="Id of the source that takes over. Null: the next one of the chain."
    )
    max_wait_s: _Wait | None = Field(
        None,
        description="Moves on when the wait that is to be expected is longer, in seconds. Null: when "
        "the execution's deadline_s would be missed.",
    )
    max_cost_usd_per_hour: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Most dollars an hour that calls which moved on may cost. Null: no limit."
    )
    return_below_s: _Wait | None = Field(
        None, description="Comes back when the wait to be expected is shorter, in seconds."
    )

    @model_validator(mode="after")
    def _comes_back_below(self) -> Self:
        longest, back = self.max_wait_s, self.return_below_s
        if longest is not None and back is not None and back > longest:
            raise ValueError(f"return_below_s must not be above max_wait_s, which is {longest:g}")
        return self
