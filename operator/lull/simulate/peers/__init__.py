"""What other systems would do, from their documented defaults; where a doubt is, to their advantage.

All of them: one replica a model, that computes as many requests at once as there are; nothing between the
request and the start of what it needs; no memory but the models' own; no interference on a shared GPU.
A GPU belongs to one tenant at a time. What is always on is loaded before the first request.
"""
