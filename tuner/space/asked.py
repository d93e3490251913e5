"""A value that a hypermodel asks for while it builds."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.records import Value
from tuner.space.parameters import Float, Int, Parameter, describe_when


@dataclass(frozen=True)
class Asked:
    """A value that a hypermodel asks for while it builds or fits."""

    name: str
    """As the hypermodel calls it, name scopes included: what is reported."""
    parameter: Parameter
    """Its domain; ``when`` are the conditional scopes that it stands in."""
    default: Value
    mirrored: bool = False
    """KerasTuner's ``reverse_log``: drawn on the parameter's log scale, and taken from the other end of the range."""

    @property
    def key(self) -> str:
        """Return the name in the study: one name under two conditions is two parameters there, as in KerasTuner."""
        conditions = f" [{describe_when(self.parameter.when)}]" if self.parameter.when else ""
        return f"{self.name}{conditions}{' (mirrored)' if self.mirrored else ''}"

    def mirror(self, value: Value) -> Value:
        """Return the value that stands for ``value`` on the other scale; both ways."""
        if not self.mirrored or not isinstance(self.parameter, Int | Float) or isinstance(value, str | None):
            return value
        low, high = self.parameter.low, self.parameter.high
        return min(max(low + high - value, low), high)  # it may miss the ends by rounding
