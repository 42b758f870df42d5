"""The toolkit: an OpenStack-style API on WebOb and Routes, under any WSGI server.

The package has no code of its own: a name is imported from the module that is named after it (`apid.wsgi.router.Router`). Nothing
here imports the daemon; what the daemon offers arrives in the WSGI environ and is optional.
"""
