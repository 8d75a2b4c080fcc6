"""Parts of the dispatch benchmark."""
