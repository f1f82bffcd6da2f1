"""Process nodes: Kubernetes Nodes that run the containers of their Pods as local processes.

Nothing is isolated: all processes share one user, file system and network, and neither resource limits
nor security contexts are enforced. What a container can tell apart is its address (`POD_IP`), its
environment, its folders and its API credentials.

Left out, because nothing here needs it: `kubectl exec`, `attach` and `port-forward`, host ports, ephemeral
containers, Pods' own deadlines, volumes from the network, read-only mounts, and changes of a ConfigMap or
Secret after its volume was made.
"""
