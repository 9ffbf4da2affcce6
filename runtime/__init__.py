"""The shell that every process shares: settings, Kafka, Redis, vault, feed, clock, logs."""
