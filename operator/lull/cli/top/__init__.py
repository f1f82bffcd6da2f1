"""`lull top`: services and hosts as they are now, live in a terminal, as tables, or as JSON."""
