"""Apache Kafka for tests: a broker of one's own, in a container or as a plain Java process."""
