"""`eseg doctor`: what this machine has for the node, and what to fix. Each part reads a `Host` and yields findings."""
