"""`lull explain`: why a network answers as it does."""
