"""Process nodes: Kubernetes Nodes that run the containers of their Pods as local processes.

Nothing is isolated: all processes share one user, file system and network, and resource limits are
not enforced. What a container can tell apart is its address (`POD_IP`), its environment, its
folders and its API credentials.
"""
