"""Parts of ``bench_storage``: what lies on disk, snapshots of a large store, the mirror, memory, peers."""
