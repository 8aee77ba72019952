"""Conditions on a comparison, e.g. "miou < -0.5", with which a build can fail."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eseg_ros.errors import UsageError
from eseg_ros.evaluation.bootstrap import LATENCY_PERCENTILES
from eseg_ros.evaluation.compare import Change, Comparison

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SYNTAX = re.compile(
    r"\s*(?:\[(?P<sequence>[^\]]+)\]\s*)?(?P<score>[\w.\-]+)\s*(?P<operator><=|>=|<|>)\s*(?P<limit>\S+)\s*"
)
_ENDS = ("low", "high")
GRAMMAR = (
    '[SEQUENCE] SCORE[.low|.high] OP NUMBER, e.g. "miou < -0.5", "iou.pedestrian.high < 0", "[night/7] miou < -2" or '
    '"latency_ms.p95 > 5"; OP is one of < <= > >='
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A limit on how much a score changes from the first run to the second.

    Attributes:
        text: as it was written.
        sequence: the change in this sequence alone; None for the whole run.
        score: a name as in `Scores`, or "frames_dropped".
        end: "low" or "high", the interval's end to compare; None for the difference itself.
        operator: a key of the operators.
        limit: points (hundredths) for scores, milliseconds for latencies, frames for drops.
    """

    text: str
    sequence: str | None
    score: str
    end: str | None
    operator: str
    limit: float

    def value(self, comparison: Comparison) -> float:
        """The change that the condition is about, in the unit of the limit.

        Raises:
            UsageError: the comparison has no such score or sequence; the message lists those there are.
        """
        if self.score == "frames_dropped":
            dropped = [self._dropped(run.summary) for run in (comparison.first, comparison.second)]
            return float(dropped[1] - dropped[0])
        scores = self._scores(comparison)
        if self.score not in scores:
            raise UsageError(
                f"condition {self.text!r}: these runs have no score {self.score!r}; they have "
                f"{', '.join([*scores, 'frames_dropped'])}"
            )
        difference = scores[self.score].difference
        value = getattr(difference, self.end or "value")
        if np.isnan(value):
            raise UsageError(f"condition {self.text!r}: there is no interval; compare with --replicates 1000")
        return float(value) if self.score in LATENCY_PERCENTILES else 100 * float(value)

    def holds(self, comparison: Comparison) -> bool:
        """Whether the change is beyond the limit. Raises like `value`."""
        return _OPERATORS[self.operator](self.value(comparison), self.limit)

    def _scores(self, comparison: Comparison) -> dict[str, Change]:
        if self.sequence is None:
            return dict(comparison.scores)
        if self.sequence not in comparison.sequences:
            raise UsageError(
                f"condition {self.text!r}: no common sequence {self.sequence!r}; there are "
                f"{', '.join(comparison.sequences)}"
            )
        return dict(comparison.sequences[self.sequence])

    def _dropped(self, summary: dict[str, object]) -> int:
        sequences = summary["sequences"] if self.sequence else [summary]
        assert isinstance(sequences, list)
        found = [int(part["frames_dropped"]) for part in sequences if self.sequence in (None, part.get("name"))]
        if not found:
            raise UsageError(f"condition {self.text!r}: no sequence {self.sequence!r}")
        return found[0]


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        UsageError: the text is none; the message gives the grammar.
    """
    parts = _SYNTAX.fullmatch(text)
    try:
        if parts is None:
            raise ValueError
        limit = float(parts["limit"])
        if not np.isfinite(limit):
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no condition; expected {GRAMMAR}") from None
    score, _, end = parts["score"].rpartition(".")
    if end not in _ENDS:
        score, end = parts["score"], ""
    return Condition(text, parts["sequence"], score, end or None, parts["operator"], limit)
