"""What every benchmark is as a command: two options, and JSON or tables."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from runtime.logs import configure_logs
from runtime.settings import LogSettings


def run_benchmark(
    description: str | None,
    quick: str,
    measure: Callable[[bool], Coroutine[Any, Any, dict[str, Any]]],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Read the options, measure, print.

    ``quick`` says what ``--quick`` leaves out; ``measure`` is told whether that is asked for, and
    ``show`` prints what it found for people.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    configure_logs(LogSettings(level="error"), "bench")
    found = asyncio.run(measure(options.quick))
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


def tell(what: str) -> None:
    """Say how far it is, beside what is printed."""
    print(what, file=sys.stderr, flush=True)
