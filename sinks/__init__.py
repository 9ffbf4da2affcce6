"""deliveries.<platform> → platform API → audit: batches, posts, verdicts, outcomes."""
