"""What a run came to, for people and as JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chaos.oracle import Violation

_EXAMPLES: Final = 5
"""Of each thing that is wrong."""


@dataclass(frozen=True, slots=True)
class Report:
    """One seed's run."""

    seed: int
    log: str
    faults: Sequence[tuple[float, str]]
    """Seconds from the beginning, and what went wrong then."""
    requests: int
    refused: int
    unanswered: int
    events: int
    obligations: int
    """Pairs of an event and a destination."""
    outcomes: Mapping[str, int]
    """By kind, the passing ones too, each name once."""
    reposted: Mapping[str, int]
    """Events that a platform took again, by platform."""
    outcomes_twice: int
    """Records of the sinks' final outcomes beyond the first of a name."""
    streams_outcomes_twice: int
    """The same of those that the streams write."""
    alerts: int
    recovery_seconds: float
    """From the end of the faults to the last outcome of what was sent before."""
    fresh_seconds: float
    """How long an event took that was sent after that."""
    seconds: float
    """Of the whole run, without starting and stopping."""
    stuck: Mapping[str, int]
    """Records that nobody has done with, by topic."""
    violations: Sequence[Violation]

    def as_json(self) -> dict[str, Any]:
        """All of it, with the violations counted and some of them told."""
        told = dataclasses.asdict(self)
        found: dict[str, list[str]] = {}
        for violation in self.violations:
            found.setdefault(violation.breach, []).append(violation.what)
        told["violations"] = {breach: len(whats) for breach, whats in found.items()}
        told["examples"] = {breach: whats[:_EXAMPLES] for breach, whats in found.items()}
        return told

    def lines(self) -> list[str]:
        """For people."""
        told = self.as_json()
        faults, examples = told.pop("faults"), told.pop("examples")
        plan = [f"  {seconds:6.1f} s  {name}" for seconds, name in faults]
        figures = [f"  {name.replace('_', ' '):<24}{_shown(told[name])}" for name in told]
        wrong = [f"  ! {breach}: {what}" for breach, whats in examples.items() for what in whats]
        return [*plan, *figures, *wrong]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {value[name]:,}" for name in sorted(value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(reports: Sequence[Report], path: Path) -> None:
    """Leave them as one JSON list."""
    path.write_text(json.dumps([report.as_json() for report in reports], indent=2) + "\n")
