"""What `run` is made of: installing, the servers, the sidecar, the cells and their report."""
