"""What other systems would do, from their documented defaults; where a doubt is, to their advantage.

The exceptions: ModelMesh's second copies are left out, Seldon overcommits as far as it has to (both in
`caches`), and how many hosts these two keep is our choice (`Setting.fixed_hosts`), as they document none.

All of them: one replica a model, that computes as many requests at once as there are; nothing between the
request and the start of what it needs; no memory but the models' own; no interference on a shared GPU.
A GPU belongs to one tenant at a time. What is always on is loaded before the first request.
"""
