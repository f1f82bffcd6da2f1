"""`lull simulate`: what policies would have kept, drawn and delayed on a trace; as table, JSON and page."""
