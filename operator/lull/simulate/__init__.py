"""What a policy would have kept, drawn and delayed on a trace of requests, in virtual time.

`lull` runs the very `plan` and `wake` that the controller runs; peers are models of their
documented defaults.
"""
