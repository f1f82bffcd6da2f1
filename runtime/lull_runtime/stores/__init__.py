"""Where artifacts lie: volumes, web servers, registries, object stores; each read and written in one way."""
