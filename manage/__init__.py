"""Organisations, domains and destinations: their store, and their way onto domain-configs."""
