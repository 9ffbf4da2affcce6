"""``python -m benchmarks [--quick] [--json]``: every measurement, one after the other."""

import subprocess
import sys

MODULES = ("road", "gateway", "streams", "sinks", "audit")


def main() -> int:
    """Run each module in a process of its own, so that none measures another's leftovers."""
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]).returncode
        for name in MODULES
    ]
    return max(codes)


sys.exit(main())
