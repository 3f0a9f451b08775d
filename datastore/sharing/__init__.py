"""The verbs that need a remote: what `workspace` knows of versions, done by `sync`."""
