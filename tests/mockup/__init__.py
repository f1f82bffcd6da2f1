"""A mock-up of a dashboard: its own queries, asked of a real Prometheus, drawn in its own grid by matplotlib.

Grafana is not needed, and not claimed: colours and fonts are near, the figures are the same.

    PYTHONPATH=tests python -m mockup manifests/components/monitoring/dashboards/lull-fleet.json \
        http://127.0.0.1:9090 fleet.png --minutes 30 --variable namespace=default
"""
