"""Grafana dashboards: of the fleet, of one service and of one host.

They are written in Python and committed as JSON, under manifests/components/monitoring/dashboards, which is
what a cluster is given. Only `make generate` and `make check` import this package: it needs Grafana's SDK,
which is among the developers' packages alone.
"""
