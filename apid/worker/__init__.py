"""The life of a worker: boot after the fork, the pipeline, the drain."""
