"""The controller: watches, decides with `lull.policy`, writes the difference."""
