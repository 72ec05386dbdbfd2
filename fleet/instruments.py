"""What a process counts by itself as it serves: how long its requests took. One registry for each process's parts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Instruments:
    """The counters of one process. May be used from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "fleet_http_request_seconds",
            "Time from a request's arrival to the end of its answer, by route; a parked poll is as long as it parks.",
            ("route", "method", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered. `route` is the path's template: never the path, whose values have no end."""
        self._requests.labels(route, method, f"{status // 100}xx").observe(seconds)

    def render(self) -> str:
        """In Prometheus' text format."""
        return generate_latest(self._registry).decode()
