"""From bytes to an instance: WIT, the Canonical ABI, manifests, the loader; bindings and builds for authors."""
