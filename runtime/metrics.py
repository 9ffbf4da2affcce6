"""Every metric: one place, one sentence each, labels from closed sets only."""

from typing import Final

from prometheus_client import Counter, Histogram

HTTP_REQUESTS: Final = Counter(
    "capistream_http_requests_total",
    "Requests the gateway answered, by route and by the code of the answer.",
    ["route", "code"],
)
EVENTS_ACCEPTED: Final = Counter(
    "capistream_events_accepted_total",
    "Events that Kafka acknowledged before the gateway answered 2xx.",
)
EVENTS_WITHHELD: Final = Counter(
    "capistream_events_withheld_total",
    "Accepted events that go to nobody: a program's, or a client's that the shop excludes.",
    ["reason"],
)
UNCHECKED_REQUESTS: Final = Counter(
    "capistream_unchecked_requests_total",
    "Requests that were let in without asking the limits, because Redis did not answer.",
)
UNKNOWN_KEYS: Final = Counter(
    "capistream_unknown_keys_total",
    "Keys in events that no schema knows and that were left out.",
)
PRODUCE_SECONDS: Final = Histogram(
    "capistream_produce_seconds",
    "Time from producing a request's events to the last delivery report.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
CONFIG_RECORDS: Final = Counter(
    "capistream_config_records_total",
    "Records read from domain-configs, by whether they could be used.",
    ["result"],
)
