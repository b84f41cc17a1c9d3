"""Named, versioned models on any file system that fsspec opens, without a server."""
