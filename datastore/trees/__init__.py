"""Structures made of chunks: file manifests and ordered, history-independent maps."""
