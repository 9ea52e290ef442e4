"""What the cells stand on: a whole cluster inside namespaces of its own, and ways to look at it."""
