"""The local cluster: a real Kubernetes control plane and process nodes, without root or containers.

It runs any manifests and knows nothing of Lull's own kinds.
"""
