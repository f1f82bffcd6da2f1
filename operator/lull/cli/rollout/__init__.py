"""`lull rollout`: how a new revision takes over, and the user's word on it."""
