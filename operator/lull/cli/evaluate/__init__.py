"""`lull evaluate`: how good a served model is, as its clients see it."""
