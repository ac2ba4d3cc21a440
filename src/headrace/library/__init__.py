"""Where models live: names, manifests, blobs, and how they come and go."""
