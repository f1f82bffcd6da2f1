"""`lull report`: what a period cost and saved, from Prometheus, as one page or as JSON."""
