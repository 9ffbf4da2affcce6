"""``python -m capistream``."""

from capistream.cli import main

main()
