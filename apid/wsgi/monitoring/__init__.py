"""Apps that show what the daemon is doing: metrics, dashboard. They read it from `environ["apid.status"]()` and change nothing.

They know the status document, which is data, and nothing of the daemon; under another server they answer 404 and say why.
"""
