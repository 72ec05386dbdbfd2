"""The dashboards of work: jobs and queue, searches, the control plane. Of several replicas the maximum counts: they
read the same rows."""

from __future__ import annotations

from dashboards.panels import Board, Panel, Query, Row, one

RATE = "$__rate_interval"

JOBS = Board(
    "tinyfleet-jobs",
    "tinyfleet / Jobs and queue",
    "What waits, for how long, what runs, and how it ends.",
    (
        Row(
            "Queue",
            (
                one(
                    "GPUs leased",
                    "gauge",
                    "fleet:fleet_gpu_allocated:ratio",
                    unit="percentunit",
                    width=6,
                    most=1,
                ),
                one("Waiting", "stat", 'sum(max by (tenant) (fleet_jobs{state="queued"}))', width=6),
                one(
                    "The oldest has waited",
                    "stat",
                    "max(fleet_queue_oldest_seconds)",
                    unit="s",
                    width=6,
                    limits=(600, 1800),
                ),
                one("Running", "stat", 'sum(max by (tenant) (fleet_jobs{state="running"}))', width=6),
                one(
                    "Jobs by state",
                    "timeseries",
                    "sum by (state) (max by (tenant, state) (fleet_jobs))",
                    "{{state}}",
                    stacked=True,
                ),
                one(
                    "Waiting by tenant",
                    "timeseries",
                    'max by (tenant) (fleet_jobs{state="queued"})',
                    "{{tenant}}",
                    stacked=True,
                ),
                Panel(
                    "Wait until the first lease",
                    "timeseries",
                    tuple(
                        Query(
                            f"histogram_quantile({share}, sum by (le) (rate(fleet_queue_wait_seconds_bucket[{RATE}])))",
                            name,
                        )
                        for share, name in ((0.5, "median"), (0.9, "9 in 10"), (0.99, "99 in 100"))
                    ),
                    "s",
                ),
                one(
                    "Started a minute",
                    "timeseries",
                    f"60 * sum(rate(fleet_queue_wait_seconds_count[{RATE}]))",
                    "started",
                ),
            ),
        ),
        Row(
            "Ends",
            (
                one(
                    "Ended a minute, by how",
                    "timeseries",
                    f"60 * max by (state) (rate(fleet_jobs_finished_total[{RATE}]))",
                    "{{state}}",
                    stacked=True,
                ),
                one(
                    "Leases",
                    "timeseries",
                    "max by (kind, exclusive) (fleet_leases)",
                    "{{kind}}, exclusive {{exclusive}}",
                    stacked=True,
                ),
                one("Crons", "table", "max by (tenant, cron, health) (fleet_cron_health) == 1", width=12),
                one(
                    "Failed in a row",
                    "timeseries",
                    "max by (tenant, cron) (fleet_cron_failures)",
                    "{{tenant}} {{cron}}",
                ),
            ),
        ),
    ),
)

SEARCHES = Board(
    "tinyfleet-searches",
    "tinyfleet / BEAM searches",
    "Searches for fast kernels: how many, how fast they go on, what they set aside.",
    (
        Row(
            "Searches",
            (
                one("Running", "stat", 'max(fleet_searches{state="running"})', width=6),
                one("Waiting", "stat", 'max(fleet_searches{state="queued"})', width=6),
                one(
                    "Tuned kernels, confirmed", "stat", 'max(fleet_tuned_kernels{confirmed="true"})', width=6
                ),
                one(
                    "Tuned kernels, not confirmed",
                    "stat",
                    'max(fleet_tuned_kernels{confirmed="false"})',
                    width=6,
                ),
                one("Searches", "timeseries", "max by (state) (fleet_searches)", "{{state}}", stacked=True),
                one(
                    "Rounds a minute",
                    "timeseries",
                    f"60 * max(rate(fleet_search_rounds_total[{RATE}]))",
                    "rounds",
                ),
                one(
                    "Ended an hour, by how",
                    "timeseries",
                    "max by (state) (increase(fleet_searches_finished_total[1h]))",
                    "{{state}}",
                ),
                one(
                    "Quarantined a minute",
                    "timeseries",
                    f"60 * max(rate(fleet_quarantined_candidates_total[{RATE}]))",
                    "candidates",
                    about="Crashed, hung, lied or wrote elsewhere.",
                ),
                one(
                    "Tuned kernels",
                    "timeseries",
                    "max by (confirmed) (fleet_tuned_kernels)",
                    "confirmed {{confirmed}}",
                    stacked=True,
                ),
            ),
        ),
    ),
)

CONTROL_PLANE = Board(
    "tinyfleet-control-plane",
    "tinyfleet / Control plane",
    "The API's requests and how long they take, the agents by their contact, and the scraping itself.",
    (
        Row(
            "Agents",
            (
                one("Online", "stat", 'sum(max by (state) (fleet_nodes{contact="online"}))', width=6),
                one(
                    "Not online",
                    "stat",
                    'sum(max by (contact, state) (fleet_nodes{contact!="online"}))',
                    width=6,
                    limits=(1, 5),
                ),
                one(
                    "Oldest metrics",
                    "stat",
                    "max(fleet_node_metrics_age_seconds)",
                    unit="s",
                    width=6,
                    limits=(20, 60),
                ),
                one(
                    "Clocks: the most that one is off",
                    "stat",
                    "max(abs(fleet_node_clock_skew_seconds))",
                    unit="s",
                    width=6,
                    limits=(1, 5),
                ),
                one(
                    "Nodes by contact",
                    "timeseries",
                    "sum by (contact) (max by (contact, state) (fleet_nodes))",
                    "{{contact}}",
                    stacked=True,
                ),
                one(
                    "Nodes by state",
                    "timeseries",
                    "sum by (state) (max by (contact, state) (fleet_nodes))",
                    "{{state}}",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                one(
                    "Requests a second",
                    "timeseries",
                    f"sum by (route) (rate(fleet_http_request_seconds_count[{RATE}]))",
                    "{{route}}",
                    "reqps",
                    stacked=True,
                ),
                one(
                    "Errors a second",
                    "timeseries",
                    f'sum by (route, status) (rate(fleet_http_request_seconds_count{{status=~"[45]xx"}}[{RATE}]))',
                    "{{route}} {{status}}",
                    "reqps",
                ),
                one(
                    "99 in 100 take at most",
                    "timeseries",
                    "route:fleet_http_request_seconds:p99_5m",
                    "{{route}}",
                    "s",
                    "A parked poll takes as long as it parks.",
                ),
                one(
                    "Mean time",
                    "timeseries",
                    f"sum by (route) (rate(fleet_http_request_seconds_sum[{RATE}])) / sum by (route) (rate(fleet_http_request_seconds_count[{RATE}]))",
                    "{{route}}",
                    "s",
                ),
            ),
        ),
        Row(
            "Scraping",
            (
                one(
                    "Slowest scrapes",
                    "timeseries",
                    'topk(5, scrape_duration_seconds{job="tinyfleet-nodes"})',
                    "{{node}}",
                    "s",
                ),
                one(
                    "Series scraped",
                    "timeseries",
                    "sum by (job) (scrape_samples_scraped)",
                    "{{job}}",
                    stacked=True,
                ),
                one("Targets up", "timeseries", "avg by (job) (up)", "{{job}}", "percentunit", most=1),
                one(
                    "Scrape of the control plane",
                    "timeseries",
                    'scrape_duration_seconds{job="tinyfleet"}',
                    "{{instance}}",
                    "s",
                ),
            ),
        ),
    ),
)
