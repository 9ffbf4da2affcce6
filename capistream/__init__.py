"""The command line: one subcommand per process, and ``up``, the whole stack in one command."""
