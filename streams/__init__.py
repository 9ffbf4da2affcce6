"""raw-events → deliveries.<platform>: Faust carries the records, pure functions decide."""
